"""Matching many pairs with one method: features by scope, batches, and parts that survive a kill."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sd4match_lib.data.reading import XY
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.types import Pair
from sd4match_lib.errors import DataError
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.cache import DiskCache, MemoryCache, Tensors
from sd4match_lib.features.extractors import FeatureSource
from sd4match_lib.geometry import HW, clamp_points, from_grid, points_to_grid, stretch_points
from sd4match_lib.matching.correlation import Correlation
from sd4match_lib.matching.points import match_points
from sd4match_lib.matching.similarity import pair_scalars
from sd4match_lib.metrics.keypoints import (
    all_keypoints,
    keypoint_frame,
    matched_rows,
    read_keypoints,
    score_pair,
    thresholds,
    write_keypoints,
)
from sd4match_lib.prompts.base import Scope
from sd4match_lib.runs.distributed import ProcessGroup
from sd4match_lib.utils.progress import progress

_log = logging.getLogger(__name__)

T = TypeVar("T")

PART_PAIRS = 32
"""Pairs per part: what a kill costs at most, and what processes share out. Fixed, so that a run with another
batch size or number of processes can go on."""

FEATURE_BYTES = 2 * 2**30
"""Features kept in memory; more of them move to the run's folder until it ends."""


class PairMatcher:
    """One method on one device, matching pairs part by part."""

    def __init__(
        self, source: FeatureSource, models: MethodModels, device: torch.device, folder: Path, batch_size: int
    ) -> None:
        """Match with `source`.

        Args:
            source: the method's features, loaded.
            models: its settings.
            device: where matching happens.
            folder: finished parts and overflowing features are kept below it.
            batch_size: pairs per step, and images per step of what is computed per image.
        """
        self._source = source
        self._models = models
        self._device = device
        self._parts = folder / "parts"
        self._batch_size = batch_size
        self._features = MemoryCache(FEATURE_BYTES, DiskCache(folder / "features", {}))

    def match_all(self, pairs: Sequence[Pair], group: ProcessGroup) -> pd.DataFrame:
        """Match all pairs; parts that an earlier attempt finished are read, not computed.

        Args:
            pairs: at least one, in an order that is the same in every attempt.
            group: the processes that share the parts out; all see the same folder.

        Returns:
            One row per keypoint, sorted by pair and keypoint, in every process.
        """
        places = [range(len(pairs))[start : start + PART_PAIRS] for start in range(0, len(pairs), PART_PAIRS)]
        paths = [self._parts / f"{number:04d}.parquet" for number in range(len(places))]
        own = {paths[part]: places[part] for part in group.share_of(len(paths))}
        total = sum(map(len, own.values()))
        for _ in progress(self._work(pairs, own), total=total, description="matching", unit="pair"):
            pass
        group.barrier()
        rows = pd.concat([read_keypoints(path) for path in paths], ignore_index=True)
        return rows.sort_values(["pair_id", "keypoint"], ignore_index=True, kind="stable")

    def clear(self) -> None:
        """Delete the parts and features of a run that is complete."""
        shutil.rmtree(self._parts, ignore_errors=True)
        self._features.clear()

    def _work(self, pairs: Sequence[Pair], parts: Mapping[Path, range]) -> Iterator[Any]:
        """Write the parts (file to places of pairs) that are not there yet, yielding once per pair."""
        for path, places in parts.items():
            part = [pairs[place] for place in places]
            if _is_finished(path, part):
                yield from places
                continue
            rows: list[dict[str, Any]] = []
            for batch, src, trg in self._extracted(part):
                rows += self._match(batch, src, trg)
                yield from batch
            write_keypoints(keypoint_frame(rows), path)

    def _extracted(
        self, part: Sequence[Pair]
    ) -> Iterator[tuple[Sequence[Pair], list[Tensors], list[Tensors]]]:
        """Batches of pairs with what the method needs of their sources and targets."""
        if self._source.scope is not Scope.PAIR:
            # All images of the part first: batches of images are full although most pairs share theirs.
            self._fetch([image for pair in part for image in (pair.src, pair.trg)])
        for batch in _batches(part, self._batch_size):
            if self._source.scope is Scope.PAIR:
                with torch.no_grad():
                    src, trg = self._source.extract_pairs(batch)
            else:
                src, trg = (
                    self._fetch([pair.src for pair in batch]),
                    self._fetch([pair.trg for pair in batch]),
                )
            yield batch, src, trg

    def _fetch(self, images: Sequence[ImageRecord]) -> list[Tensors]:
        """What the method needs of images, computed for those that it is not known of."""
        known = {image.image_id: self._features.get(image.image_id) for image in images}
        missing = list({image.image_id: image for image in images if known[image.image_id] is None}.values())
        for batch in _batches(missing, self._batch_size):
            with torch.no_grad():
                found = self._source.extract(batch)
            for image, tensors in zip(batch, found, strict=True):
                kept = {name: tensor.to(self._source.keep_dtype) for name, tensor in tensors.items()}
                self._features.put(image.image_id, kept)
                known[image.image_id] = kept
        return [known[image.image_id] or {} for image in images]

    def _match(self, batch: Sequence[Pair], src: list[Tensors], trg: list[Tensors]) -> list[dict[str, Any]]:
        hw_in = self._models.image_hw
        with torch.no_grad():
            src_map, trg_map = self._source.pair_maps(self._on_device(src), self._on_device(trg))
            src_ft = _source_points(batch, hw_in, _grid(src_map)).to(self._device)
            options = self._models.matching(trg_map.shape[3])
            trg_ft = match_points(src_map, trg_map, src_ft, **options).cpu()
            scalars = [
                self._scalars(pair, src_map[[place]], trg_map[[place]]) for place, pair in enumerate(batch)
            ]
        pred_in = from_grid(trg_ft, hw_in=hw_in, hw_ft=_grid(trg_map))
        rows: list[dict[str, Any]] = []
        for pair, predicted, stored in zip(batch, pred_in, scalars, strict=True):
            rows += score_pair(pair, predicted[: len(pair.src_px)], hw_in, stored)
        return rows

    def _scalars(self, pair: Pair, src_map: Tensor, trg_map: Tensor) -> Tensor:
        """What is stored of the pair's score maps (`similarity.pair_scalars`), on the CPU."""
        hw_in, hw_ft = self._models.image_hw, _grid(trg_map)
        asked_px, trg_px = pair.src_px, pair.trg_px
        if pair.one_sided is not None:
            hidden_px = pair.one_sided.src_px
            asked_px = np.concatenate([asked_px, hidden_px])
            trg_px = np.concatenate([trg_px, np.full_like(hidden_px, np.nan)])
        src_ft = _in_cells(asked_px, pair.src, hw_in, _grid(src_map)).to(self._device)
        trg_in = clamp_points(stretch_points(trg_px, hw_px=pair.trg.hw_px, hw_in=hw_in), hw_in)
        rows, columns = (torch.arange(side, dtype=torch.float64) for side in hw_ft)
        cells_ft = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
        cells_in = from_grid(cells_ft, hw_in=hw_in, hw_ft=hw_ft).to(self._device)
        scores = Correlation(src_map, trg_map)(src_ft[None])[0]
        theta_in, _ = thresholds(pair, hw_in)
        return pair_scalars(scores, cells_in, torch.from_numpy(trg_in).to(self._device), theta_in).cpu()

    def _on_device(self, items: list[Tensors]) -> list[Tensors]:
        return [{name: tensor.to(self._device).float() for name, tensor in item.items()} for item in items]


def _source_points(pairs: Sequence[Pair], hw_in: HW, hw_ft: HW) -> Tensor:
    """The pairs' source points in feature cells, (B, N, 2); rows of shorter pairs end in NaN."""
    points = torch.full((len(pairs), max(len(pair.src_px) for pair in pairs), 2), float("nan"))
    for row, pair in enumerate(pairs):
        points[row, : len(pair.src_px)] = _in_cells(pair.src_px, pair.src, hw_in, hw_ft)
    return points


def _in_cells(xy_px: XY, image: ImageRecord, hw_in: HW, hw_ft: HW) -> Tensor:
    """Points ``(N, 2)`` of a picture in feature cells."""
    return torch.from_numpy(points_to_grid(xy_px, hw_px=image.hw_px, hw_in=hw_in, hw_ft=hw_ft))


def _is_finished(path: Path, part: Sequence[Pair]) -> bool:
    """Whether a file holds the rows of these pairs: every keypoint of each, and nothing else."""
    if not path.exists():
        return False
    try:
        rows = read_keypoints(path)
    except DataError as error:
        _log.warning("%s Its pairs are matched again.", error)
        return False
    wanted = sorted((pair.pair_id, keypoint) for pair in part for keypoint in all_keypoints(pair))
    found = sorted(zip(rows["pair_id"], rows["keypoint"], strict=True))
    whole = found == wanted and len(matched_rows(rows)) == sum(len(pair.keypoint_ids) for pair in part)
    if not whole:
        _log.warning(
            "%s holds %d rows, not the %d of its pairs, which are matched again.",
            path,
            len(found),
            len(wanted),
        )
    return whole


def _grid(maps: Tensor) -> HW:
    return maps.shape[2], maps.shape[3]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
