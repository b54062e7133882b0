"""Pretraining of the miniature's vision model without labels: twins of an object attract, crops agree on what
lies where.

Global: InfoNCE between the CLS tokens of a picture and of its twin (the same object from elsewhere, in other
colours). Local: InfoNCE between the patches of two crops of one picture that cover the same place.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, normalize
from transformers import Dinov2Model

from sd4match_lib.features.vision import IMAGENET_MEAN, IMAGENET_STD
from sd4match_lib.miniature.bank import Bank
from sd4match_lib.miniature.loop import Box, pretrain
from sd4match_lib.miniature.networks import build_vision
from sd4match_lib.miniature.pretrain_vae import to_unit
from sd4match_lib.miniature.probe import Probe, build_probe

_SIDE, _GRID = 112, 8
_TEMPERATURE = 0.1
_PROJECTED = 128


def _crops(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops `(B, 3, 112, 112)` with colours shuffled, scaled and shifted, and each crop's (scale, x,
    y) in picture units `(B, 3)`.
    """
    count = len(images)
    scale = 0.55 + 0.45 * torch.rand(count, generator=generator)
    shift = (1 - scale)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    crops = grid_sample(
        images, affine_grid(theta, [count, 3, _SIDE, _SIDE], align_corners=False), align_corners=False
    )
    order = torch.rand(count, 3, generator=generator).argsort(dim=1)
    crops = crops.gather(1, order[:, :, None, None].expand_as(crops))
    gain = 0.6 + 0.8 * torch.rand(count, 3, 1, 1, generator=generator)
    return (crops * gain).clamp(-1, 1), torch.cat([scale[:, None], shift], dim=1)


def _places(view: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """For each patch of `view`, the patch of `other` at its place `(B, 64)`, and whether there is one."""
    centres = (torch.arange(_GRID) + 0.5) * 2 / _GRID - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    grid = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    place = grid * view[:, :1, None] + view[:, None, 1:]
    cell = ((place - other[:, None, 1:]) / other[:, :1, None] + 1) * _GRID / 2
    inside = ((cell >= 0) & (cell < _GRID)).all(dim=-1)
    column, row = cell.long().clamp(0, _GRID - 1).unbind(dim=-1)
    return row * _GRID + column, inside


def _contrast(one: Tensor, other: Tensor) -> Tensor:
    """InfoNCE both ways between unit vectors `(B, D)` whose rows belong together."""
    labels = torch.arange(len(one), device=one.device)
    similarity = one @ other.T / _TEMPERATURE
    return (cross_entropy(similarity, labels) + cross_entropy(similarity.T, labels)) / 2


def pretrain_vision(bank: Bank, box: Box, folder: Path, device: torch.device) -> Dinov2Model:
    """Trains the vision model on the bank's twins."""
    torch.manual_seed(0)
    pictures = torch.from_numpy(bank.images)
    width = build_vision().config.hidden_size
    heads = {
        # Batch norms, as in SimCLR: they take away what all descriptors share, which at first is nearly all.
        name: nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.BatchNorm1d(2 * width, track_running_stats=False),
            nn.GELU(),
            nn.Linear(2 * width, _PROJECTED),
            nn.BatchNorm1d(_PROJECTED, affine=False, track_running_stats=False),
        )
        for name in ("cls", "patch")
    }
    modules = nn.ModuleDict({"vision": build_vision(), **heads})
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    to_input = lambda crops: (((crops + 1) / 2 - mean) / deviation).to(device)  # noqa: E731

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        objects = torch.randperm(len(pictures) // 2, generator=generator)[: box.batch]
        swap = torch.randint(2, (box.batch,), generator=generator)
        image, twin = to_unit(pictures[2 * objects + swap]), to_unit(pictures[2 * objects + 1 - swap])
        views = [_crops(picture, generator) for picture in (image, image, twin)]
        hidden = modules["vision"](to_input(torch.cat([crop for crop, _ in views]))).last_hidden_state
        first, second, third = hidden.chunk(3)
        a, b, c = (normalize(modules["cls"](h[:, 0]).float(), dim=-1) for h in (first, second, third))
        whole = (_contrast(a, b) + _contrast(a, c) + _contrast(b, c)) / 3
        project = lambda h: modules["patch"](h[:, 1:].flatten(0, 1)).unflatten(0, (len(h), -1))  # noqa: E731
        p, q = (normalize(project(h).float(), dim=-1) for h in (first, second))
        target, inside = _places(views[0][1], views[1][1])
        logits = (p @ q.transpose(1, 2) / _TEMPERATURE)[inside.to(device)]
        local = cross_entropy(logits, target[inside].to(device))
        return {"loss": whole + 0.5 * local, "global": whole.detach(), "local": local.detach()}

    watch = _Watch(build_probe(), pictures[:2048:2], [e.category for e in bank.entries[:2048:2]], to_input)
    pretrain("vision", modules, loss, box, folder, device, watch=lambda: watch(modules["vision"]))
    return modules["vision"]


class _Watch:
    """Measures nearest-neighbour category accuracy (probe pictures among bank pictures) and PCK of the patch
    tokens on the probe.
    """

    def __init__(self, probe: Probe, gallery: Tensor, names: list[str], to_input: object) -> None:
        """Keeps probe and gallery; `to_input` turns [-1, 1] pictures into the model's input."""
        self.probe, self.gallery, self.names, self.to_input = probe, gallery, names, to_input

    @torch.no_grad()
    def __call__(self, model: Dinov2Model) -> dict[str, float]:
        """Returns `category_accuracy`, `pck_patches` and `pck_pixels`."""
        keys, queries = self._hidden(model, self.gallery, 128), self._hidden(model, self.probe.images, 128)
        nearest = (normalize(queries[:, 0], dim=-1) @ normalize(keys[:, 0], dim=-1).T).argmax(dim=1).tolist()
        hits = [self.names[i] == c for i, c in zip(nearest, self.probe.categories, strict=True)]
        fine = self._hidden(model, self.probe.images, 224)[:, 1:].transpose(1, 2)
        grid = int(fine.shape[-1] ** 0.5)
        pixels = nn.functional.interpolate(
            to_unit(self.probe.images), size=(32, 32), mode="bilinear", antialias=True
        )
        return {
            "category_accuracy": sum(hits) / len(hits),
            "pck_patches": self.probe.pck(fine.unflatten(2, (grid, grid))),
            "pck_pixels": self.probe.pck(pixels),
        }

    def _hidden(self, model: Dinov2Model, images: Tensor, side: int) -> Tensor:
        """`(M, 1 + patches, D)` hidden states of pictures stretched to `side` (128: the centre 112 of it)."""
        parts = []
        for batch in images.split(64):
            pictures = to_unit(batch)
            pictures = (
                pictures[:, :, 8:120, 8:120]
                if side == 128
                else nn.functional.interpolate(pictures, size=(side, side), mode="bilinear")
            )
            parts.append(model(self.to_input(pictures)).last_hidden_state.float().cpu())  # type: ignore[operator]
        return torch.cat(parts)
