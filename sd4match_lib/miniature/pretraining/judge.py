"""A small classifier of renders that says what a painting shows.

It is trained with labels, on renders only, to measure the diffusion model; no other stage sees it or its
labels. A trained one is shipped for the notebook that counts paintings.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL.Image import Image, fromarray
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from sd4match_lib.errors import UserError, reason
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.pretraining.networks import build_image_tower
from sd4match_lib.miniature.pretraining.renders import Facts, RenderedObjects, render_object, render_objects
from sd4match_lib.miniature.pretraining.vae import to_unit
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.paths import package_path
from sd4match_lib.utils.progress import progress

logger = logging.getLogger(__name__)

PICTURES: Final = 40_960
_STEPS: Final = 4000
_BATCH: Final = 64
_NAMES: Final = tuple(CATEGORIES)
_SIDE: Final = 128
_ALSO: Final = {"duck": "bird", "winebottle": "bottle"}
_HELD_OUT: Final = 99_001
"""A seed of renders that nothing was trained on."""


class Judge(nn.Module):
    """Names the category of a picture, which it sees as the models do: stretched to 128 x 128."""

    name: Final = "a classifier of renders"
    categories: Final = _NAMES

    def __init__(self) -> None:
        """Builds the untrained classifier."""
        super().__init__()
        self.tower = build_image_tower(len(_NAMES))

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the categories `(B, 18)` for pictures `(B, 128, 128, 3)` uint8."""
        scores: Tensor = self.tower(avg_pool2d(to_unit(images), 2))
        return scores

    @torch.no_grad()
    def names(self, pictures: Sequence[Image]) -> list[str]:
        """What each picture shows."""
        self.eval()
        small = [np.array(picture.convert("RGB").resize((_SIDE, _SIDE))) for picture in pictures]
        images = torch.from_numpy(np.stack(small))
        return [_NAMES[i] for batch in images.split(64) for i in self(batch).argmax(dim=1).tolist()]


def _label(facts: Facts) -> int:
    """The number of a picture's category; PF-Willow's two kinds count as what they are in SPair-71k."""
    return _NAMES.index(_ALSO.get(facts.category, facts.category))


def shipped_judge() -> Judge:
    """Loads the judge that the package ships, in half precision."""
    judge = Judge()
    judge.load_state_dict(load_file(package_path("miniature/judge.safetensors")))
    return judge.eval()


def trained_judge(folder: Path) -> Judge:
    """Loads the judge from `folder`, or trains it on the pretraining renders that lie there and keeps it.

    Args:
        folder: the recipe's working folder.
    """
    torch.manual_seed(0)
    judge, path = Judge(), folder / "judge.safetensors"
    if path.is_file():
        try:
            judge.load_state_dict(load_file(path))
        except Exception as error:  # safetensors has exceptions of its own
            raise UserError(
                f"{path} is damaged ({reason(error)}); delete it to train the judge again."
            ) from error
        return judge.eval()
    objects = render_objects(folder / "renders", PICTURES)
    _fit(judge, objects)
    atomic_write_bytes(path, save(judge.state_dict()))
    return judge.eval()


def _fit(judge: Judge, objects: RenderedObjects) -> None:
    """Trains on random pictures, one in two mirrored, with a learning rate that falls along a cosine."""
    images = torch.from_numpy(objects.images)
    labels = torch.tensor([_label(facts) for facts in objects.facts])
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    generator = torch.Generator().manual_seed(0)
    judge.train()
    for _ in progress(range(_STEPS), description="training the judge", unit="step"):
        index = torch.randint(len(images), (_BATCH,), generator=generator)
        mirrored = torch.rand(_BATCH, generator=generator) < 0.5
        pictures = torch.where(mirrored[:, None, None, None], images[index].flip(2), images[index])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = judge(pictures)
        loss = cross_entropy(scores.float(), labels[index], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def held_out_accuracy(judge: Judge) -> float:
    """How often the judge names a thousand held-out renders right."""
    rendered = [render_object(index, _HELD_OUT) for index in range(1000)]
    names = judge.names([fromarray(image) for image, _ in rendered])
    hits = [name == _NAMES[_label(facts)] for name, (_, facts) in zip(names, rendered, strict=True)]
    return sum(hits) / len(hits)
