"""Correlation maps in two numbers: how much of a map lies on the object, and how far its peak stands out."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from sd4match_lib.backbones.device import resolve_device
from sd4match_lib.config.names import Extractor
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.types import Pair
from sd4match_lib.errors import DataError
from sd4match_lib.evaluation.evaluate import open_pairs
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.extractors import FeatureSource
from sd4match_lib.features.methods import method_settings
from sd4match_lib.geometry import points_to_grid
from sd4match_lib.matching.correlation import Correlation
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import Run, open_run
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.fingerprint import method_hash, tree_hash
from sd4match_lib.utils.paths import package_path
from sd4match_lib.utils.progress import progress

MEASURES = ("inside", "lead")
"""The two numbers' columns; see `localise`."""

_FILE = "maps.parquet"


@dataclass(frozen=True, eq=False)
class Localisation:
    """A finished measurement.

    Attributes:
        keypoints: a row each: pair_id, category, keypoint, src_image, trg_image and `MEASURES`.
        record: configuration, inputs, machine and time.
    """

    keypoints: pd.DataFrame
    record: RunRecord


def localise(
    profile: Profile,
    prompt: Prompt | str,
    *,
    dataset: str = "spair",
    split: str = "test",
    max_pairs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Localisation:
    """Measure the correlation maps (Eq. 3) of all points of a split, or find the run that did.

    ``inside`` is the match probability (Eq. 4, the softmax of the map at the profile's temperature) on cells
    whose centres lie on the target's mask: how well the object is told from the background. ``lead`` is the
    peak's similarity minus the highest one outside the loss's window around it: how localised the map is.

    Raises:
        DataError: a target has no mask.
    """
    seed = profile.seed if seed is None else seed
    pairs = open_pairs(profile, dataset, split, None, max_pairs)
    models = MethodModels(profile, method_settings(profile, Extractor.SD), prompt)
    where = resolve_device(device)
    window, temperature = profile.training.kernel_size, profile.evaluation.temperature
    kind = models.prompt.identity()["kind"] if models.prompt else ""
    code = tree_hash(package_path(""), ("analysis/localisation.py",))
    # Points are not read out of the maps.
    asked = {name: value for name, value in models.config().items() if name not in ("matcher", "sigma")}
    run = open_run(
        profile.results_path,
        f"{dataset}-{split}-maps-{kind}",
        "maps",
        {"dataset": dataset, "split": split, "pairs": len(pairs), **asked, "window": window},
        {**models.inputs(), "data": pairs.fingerprint(), "code": method_hash(), "measure": code},
        profile=profile.name,
        seed=seed,
        device=str(where),
    )
    if not run.complete:
        with run:
            source = models.load(where, seed)
            rows: list[dict[str, Any]] = []
            for pair in progress(pairs, total=len(pairs), description="maps", unit="pair"):
                rows += _measure(pair, source, models.image_hw, window, temperature)
            write_rows(run, rows, _FILE)
    return Localisation(pd.read_parquet(run.folder / _FILE), run.record)


def write_rows(run: Run, rows: list[dict[str, Any]], name: str) -> None:
    """Write a measurement's rows into its run's folder, as parquet."""
    buffer = io.BytesIO()
    pd.DataFrame(rows).to_parquet(buffer, index=False, compression="zstd")
    atomic_write_bytes(run.output(name), buffer.getvalue())


def map_measures(scores: Tensor, mask: Tensor, *, window: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Return `localise`'s two numbers of maps.

    Args:
        scores: ``(N, h, w)`` similarities.
        mask: ``(h, w)``, true on the object.
        window: side of the square around the peak that counts as the peak, in cells.
        temperature: of the softmax.

    Returns:
        ``inside`` and ``lead``, ``(N,)`` each; ``lead`` is 0 where the window covers the whole map.
    """
    count, height, width = scores.shape
    probability = (scores.flatten(1) / temperature).softmax(1).view_as(scores)
    inside = (probability * mask).sum((1, 2))
    peak, place = scores.flatten(1).max(1)
    near = torch.zeros(count, 1, height, width)
    near.view(count, -1).scatter_(1, place[:, None].cpu(), 1.0)
    near = max_pool2d(near, window, stride=1, padding=window // 2)[:, 0] > 0
    rest = scores.masked_fill(near.to(scores.device), -torch.inf).flatten(1).max(1).values
    return inside, torch.where(rest.isfinite(), peak - rest, torch.zeros_like(peak))


def _measure(
    pair: Pair, source: FeatureSource, hw_in: tuple[int, int], window: int, temperature: float
) -> list[dict[str, Any]]:
    mask = pair.trg.read_mask()
    if mask is None:
        raise DataError(f"{pair.trg.path} has no mask, which says what of a map lies on the object.")
    with torch.no_grad():
        src_map, trg_map = source.pair_maps(*source.extract_pairs([pair]))
        score = Correlation(src_map, trg_map)
        src_ft = points_to_grid(pair.src_px, hw_px=pair.src.hw_px, hw_in=hw_in, hw_ft=score.src_hw)
        scores = score(torch.from_numpy(src_ft)[None].to(src_map))[0].float()
    on_grid = torch.from_numpy(_mask_on_grid(mask, score.trg_hw))
    found = map_measures(scores, on_grid.to(scores.device), window=window, temperature=temperature)
    inside, lead = (values.cpu().tolist() for values in found)
    shared = {"pair_id": pair.pair_id, "category": pair.category}
    shared |= {"src_image": pair.src.image_id, "trg_image": pair.trg.image_id}
    return [
        {**shared, "keypoint": name, "inside": inside[i], "lead": lead[i]}
        for i, name in enumerate(pair.keypoint_ids)
    ]


def _mask_on_grid(mask: np.ndarray, hw_ft: tuple[int, int]) -> np.ndarray:
    """The mask at the cells' centres: the outer ones lie on the picture's outer pixels."""
    places = [
        np.linspace(0, side - 1, cells).round().astype(int)
        for side, cells in zip(mask.shape, hw_ft, strict=True)
    ]
    return mask[np.ix_(*places)]
