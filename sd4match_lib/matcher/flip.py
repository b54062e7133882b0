"""Left-right flip: of the source and its mirrored twin, the one that the target agrees with.

After the adaptive pose alignment of Zhang et al., "Telling Left from Right", CVPR 2024: an object
that looks the other way is matched better once it is turned. The price is in the name: on the mirrored
source a left ear looks like a right one, so points of one side may be found on the other. There, the authors
swap the names of paired keypoints; points that a user clicks have no names.
"""

from torch import Tensor

from sd4match_lib.matching.correlation import in_full_precision, l2_normalise


def agreement(src_map: Tensor, trg_map: Tensor) -> float:
    """Return the mean over source cells of the best cosine similarity that each finds in the target.

    It belongs to the two pictures, not to any point, so that all points of a pair are decided alike.

    Args:
        src_map: source features (1, C, h, w).
        trg_map: target features (1, C, h', w').

    Returns:
        A number in [-1, 1]; more is better.
    """
    src, trg = (l2_normalise(in_full_precision(maps[0]).flatten(1), dim=0) for maps in (src_map, trg_map))
    # In slices of source cells: a dense grid of 189 x 189 has a billion pairs of cells.
    best = [(part.T @ trg).amax(1) for part in src.split(256, dim=1)]
    return float(sum(part.sum() for part in best) / src.shape[1])
