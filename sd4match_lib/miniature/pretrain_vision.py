"""Pretraining of the miniature's vision model without labels: what belongs together attracts.

An object is photographed twice, from elsewhere, in other colours, before another background. Global: InfoNCE
between the CLS tokens of the two pictures. Local: InfoNCE between patches of the two that show the same part
of that object; the renderer knows which do, as a video's tracker would. Neither categories nor the names of
parts enter.
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


def _parts_seen(parts: Tensor, view: Tensor) -> Tensor:
    """Which part of its object each patch of a crop shows, `(B, 64)`; 0 is the background.

    Args:
        parts: `(B, 32, 32)` rows of `Bank.parts`.
        view: the crops' scale and shift, `(B, 3)`.
    """
    centres = (torch.arange(_GRID) + 0.5) * 2 / _GRID - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    grid = torch.stack([x, y], dim=-1)[None]
    place = grid * view[:, None, None, :1] + view[:, None, None, 1:]
    seen = grid_sample(parts[:, None].float(), place, mode="nearest", align_corners=False)
    return seen[:, 0].flatten(1).long()


def _part_contrast(one: Tensor, other: Tensor, one_parts: Tensor, other_parts: Tensor) -> Tensor:
    """InfoNCE from the patches of one picture to those of its twin; all that show the same part are right.

    Args:
        one: unit vectors `(B, 64, D)`.
        other: those of the twins.
        one_parts: what the patches show, `(B, 64)`.
        other_parts: what the twins' patches show.
    """
    logits = (one @ other.transpose(1, 2)) / _TEMPERATURE
    same = one_parts[:, :, None] == other_parts[:, None, :]
    counts = (one_parts > 0) & same.any(dim=2)
    right = logits.masked_fill(~same, -torch.inf).logsumexp(dim=2)
    cost = logits.logsumexp(dim=2) - right.masked_fill(~counts, 0.0)
    return cost.masked_fill(~counts, 0.0).sum() / counts.sum().clamp_min(1)


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

    parts = torch.from_numpy(bank.parts)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        objects = torch.randperm(len(pictures) // 2, generator=generator)[: box.batch]
        twins = [2 * objects, 2 * objects + 1]
        views = [_crops(to_unit(pictures[index]), generator) for index in twins]
        seen = [
            _parts_seen(parts[index], view).to(device) for index, (_, view) in zip(twins, views, strict=True)
        ]
        hidden = modules["vision"](to_input(torch.cat([crop for crop, _ in views]))).last_hidden_state
        first, second = hidden.chunk(2)
        whole = _contrast(*(normalize(modules["cls"](h[:, 0]).float(), dim=-1) for h in (first, second)))
        project = lambda h: modules["patch"](h[:, 1:].flatten(0, 1)).unflatten(0, (len(h), -1))  # noqa: E731
        p, q = (normalize(project(h).float(), dim=-1) for h in (first, second))
        local = (_part_contrast(p, q, *seen) + _part_contrast(q, p, *reversed(seen))) / 2
        return {"loss": whole + local, "global": whole.detach(), "local": local.detach()}

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
