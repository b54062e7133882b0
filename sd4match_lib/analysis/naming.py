"""Naming painted pictures, and counting how many are named right."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pandas as pd
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from sd4match_lib.backbones.weights import find_vision
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.features.loaded import vision_model

_EACH = 8
"""Training pictures of a category that say what it looks like."""


class Namer(Protocol):
    """Says which of some categories each picture shows."""

    @property
    def name(self) -> str:
        """What texts call it."""

    @property
    def categories(self) -> Sequence[str]:
        """What it knows."""

    def names(self, pictures: Sequence[Image]) -> list[str]:
        """Return each picture's category."""


class PictureNamer:
    """The vision model as a `Namer`: it names the category whose training pictures it sees as most alike.

    The diffusion model has no part in it, and neither has the prompt. It is no better than the vision model:
    say beside every count how many real pictures it names right.
    """

    name = "the vision model"

    def __init__(self, profile: Profile, dataset: str = "spair") -> None:
        """Look at up to eight pictures of every category of a data set's training split."""
        seen: dict[str, dict[str, ImageRecord]] = {}
        for record in open_dataset(profile.dataset(dataset), "train").images().values():
            own = seen.setdefault(record.category, {})
            if len(own) < _EACH:
                own[record.image_id] = record
        self.categories = tuple(sorted(seen))
        found = find_vision(profile.vision, profile.cache_path)
        self._model = vision_model(found, profile.vision, torch.device("cpu"))
        looks = [self._look([one.read() for one in seen[name].values()]).mean(0) for name in self.categories]
        self._shared = torch.stack(looks).mean(0)
        self._means = normalize(torch.stack(looks) - self._shared, dim=1)

    def names(self, pictures: Sequence[Image]) -> list[str]:
        """Return each picture's category."""
        unit = normalize(self._look(pictures) - self._shared, dim=1)
        return [self.categories[place] for place in (unit @ self._means.T).argmax(1).tolist()]

    @torch.no_grad()
    def _look(self, pictures: Sequence[Image]) -> Tensor:
        tokens = self._model.tokens([picture.convert("RGB") for picture in pictures])
        return normalize(tokens.cls.float(), dim=1)


def naming_table(namer: Namer, pictures: Mapping[str, Mapping[str, Sequence[Image]]]) -> pd.DataFrame:
    """Count how many pictures, by where they come from and what they should show, are named right.

    Returns:
        One row per source: `pictures`, `number`, `named right` and `share`; the last row is what a guess
        would have.
    """
    rows = []
    for source, by_category in pictures.items():
        named = [
            name == category for category, shown in by_category.items() for name in namer.names(list(shown))
        ]
        share = sum(named) / len(named)
        rows.append({"pictures": source, "number": len(named), "named right": sum(named), "share": share})
    guess = {"pictures": "a guess", "number": None, "named right": None, "share": 1 / len(namer.categories)}
    return pd.DataFrame([*rows, guess]).astype({"number": "Int64", "named right": "Int64"})
