"""Which of the options are on."""

from dataclasses import dataclass

from sd4match_lib.errors import UserError

MAX_DENSER = 8
MAX_WINDOW = 999


@dataclass(frozen=True)
class MatchOptions:
    """Options of `Matcher`. As they come, matching is the paper's own protocol.

    Attributes:
        window: side in target cells of the square around the best cell that a soft-argmax looks at, an odd
            number, instead of the matcher's own way (`matching.windowed`: Zhang et al. 2024, GeoAware-SC).
        mutual: tell which points are found back from the target (`matching.mutual`: mutual nearest
            neighbours, Dekel et al. 2015).
        flip: also match the mirrored source and keep the twin that agrees better with the target
            (`matcher.flip`: after the pose alignment of Zhang et al. 2024).
        dino_weight: weight, above 0 and below 1, of DINOv2's features beside the diffusion model's under the
            same prompt; None leaves them out (`matcher.features`: Zhang et al. 2023, SD+DINO).
        denser: how many times finer the target grid is made by bilinear interpolation of its features
            (`matcher.features.make_denser`: as Tang et al. 2023, DIFT, upsample theirs).
    """

    window: int | None = None
    mutual: bool = False
    flip: bool = False
    dino_weight: float | None = None
    denser: int = 1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: one is out of range.
        """
        if self.window is not None and (not 1 <= self.window <= MAX_WINDOW or self.window % 2 == 0):
            raise UserError(
                f"window is {self.window}; give an odd number of cells such as 15, or leave it out."
            )
        if self.dino_weight is not None and not 0 < self.dino_weight < 1:
            raise UserError(f"dino_weight is {self.dino_weight}; give a weight between 0 and 1, such as 0.5.")
        if not 1 <= self.denser <= MAX_DENSER:
            raise UserError(
                f"denser is {self.denser}; give a whole number from 1 (as it is) to {MAX_DENSER}."
            )
