"""Tiny copies of the real data sets' layouts, for tests."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat


def write_picture(path: Path, hw: tuple[int, int] = (40, 60), seed: int = 0) -> None:
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)).save(path)


def spair_annotation(src: str, trg: str, category: str, **changes: Any) -> dict[str, Any]:
    """The fields of a real PairAnnotation for pictures of 60 x 40 pixels."""
    return {
        "filename": f"000001-{src}-{trg}:{category}",
        "src_imname": f"{src}.jpg",
        "trg_imname": f"{trg}.jpg",
        "src_imsize": [60, 40, 3],
        "trg_imsize": [60, 40, 3],
        "src_bndbox": [2, 3, 50, 30],
        "trg_bndbox": [5, 6, 55, 39],
        "category": category,
        "src_kps": [[10, 20], [30, 12], [59, 39]],
        "trg_kps": [[11, 21], [33, 14], [0, 0]],
        "kps_ids": ["0", "4", "11"],
        "mirror": 0,
        "viewpoint_variation": 1,
        "scale_variation": 2,
        "truncation": 3,
        "occlusion": 0,
    } | changes


def write_spair(root: Path, pairs: list[tuple[str, str, str]], split: str = "test", **changes: Any) -> Path:
    """SPair-71k with one split of (source, target, category); `changes` go into every annotation."""
    part = {"train": "trn"}.get(split, split)
    names = []
    for number, (src, trg, category) in enumerate(pairs, start=1):
        names.append(f"{number:06d}-{src}-{trg}:{category}")
        path = root / "PairAnnotation" / part / f"{names[-1]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(spair_annotation(src, trg, category, **changes)))
        for seed, stem in enumerate((src, trg)):
            write_picture(root / "JPEGImages" / category / f"{stem}.jpg", seed=seed)
    layout = root / "Layout" / "large" / f"{part}.txt"
    layout.parent.mkdir(parents=True, exist_ok=True)
    layout.write_text("".join(f"{name}\n" for name in names))
    return root


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_pf_pascal(
    root: Path, keypoints: dict[str, list[list[float]]], rows: list[list[Any]], split: str = "train"
) -> Path:
    """PF-Pascal's aeroplanes: stem -> ``kps``, and the rows (source stem, target stem, class, flip)."""
    base = root / "PF-dataset-PASCAL"
    (base / "Annotations" / "aeroplane").mkdir(parents=True)
    for seed, (stem, kps) in enumerate(keypoints.items()):
        write_picture(base / "JPEGImages" / f"{stem}.jpg", seed=seed)
        content = {"kps": np.array(kps, float), "bbox": np.array([[1.0, 2, 30, 40]])}
        savemat(base / "Annotations" / "aeroplane" / f"{stem}.mat", content)
    names = [[f"PF-dataset-PASCAL/JPEGImages/{stem}.jpg" for stem in row[:2]] + row[2:] for row in rows]
    write_csv(root / f"{split}_pairs.csv", ["source_image", "target_image", "class", "flip"], names)
    return root


def write_pf_willow(root: Path, stems: dict[str, list[str]], keypoints: int = 10) -> Path:
    """PF-Willow without a list: sub-class -> stems, each with its own points."""
    for sub_class, names in stems.items():
        for seed, stem in enumerate(names):
            path = root / "PF-dataset" / sub_class / f"{stem}.png"
            write_picture(path, seed=seed)
            points = np.random.default_rng(seed).uniform(1, 39, (2, keypoints))
            savemat(path.with_suffix(".mat"), {"pts_coord": points})
    return root
