"""Pretraining of the miniature's vision model from pictures alone: crops of one picture find each other, as
in MoCo v3 (Chen et al. 2021), masked patches are told from the rest, as in iBOT (Zhou et al. 2022; centring
after DINOv2), and patches of two crops that show one place agree, as in PixPro (Xie et al. 2021).

Where crops overlap is known from how they were cut, not from what was rendered. With the last loss patches
had a PCK of 0.120 after 168,576 samples, without it 0.099 after 161,536 (pixels: 0.077); DINO's loss of the
whole had not begun to fall after 25,000.
"""

import copy
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, interpolate, log_softmax, normalize
from transformers import Dinov2Model

from sd4match_lib.backbones.vision import IMAGENET_MEAN, IMAGENET_STD
from sd4match_lib.miniature.pretraining.loop import Batch, Budget, Objective, pretrain
from sd4match_lib.miniature.pretraining.networks import build_vision
from sd4match_lib.miniature.pretraining.probe import Probe, build_probe
from sd4match_lib.miniature.pretraining.renders import RenderedObjects
from sd4match_lib.miniature.pretraining.vae import to_unit

_LARGE, _SMALL = 112, 56
_GRID = 8
"""Patches on a side of a large crop."""
_SMALL_CROPS = 2
_PROTOTYPES = 256
_STUDENT, _TEACHER, _CONTRAST = 0.1, 0.05, 0.2
"""Temperatures of the patches' student and teacher, and of the contrast."""
_MASKED = 0.4


def to_input(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as the model takes them."""
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((pictures + 1) / 2 - mean.to(pictures)) / deviation.to(pictures)


def crops(
    pictures: Tensor, side: int, scale: tuple[float, float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random square windows of `scale` times the picture's side, resampled to `side`, one in two mirrored,
    with brightness, contrast and the balance of the channels off, one in five grey, `(B, 3, side, side)`;
    and where they lie, `(B, 2, 3)`: from places in the window to places in the picture, both in [-1, 1].
    """
    count = len(pictures)
    draw = lambda *shape: torch.rand(*shape, generator=generator).to(pictures)  # noqa: E731
    size = scale[0] + (scale[1] - scale[0]) * draw(count)
    theta = torch.zeros(count, 2, 3).to(pictures)
    theta[:, 0, 0] = size * torch.where(draw(count) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = size
    theta[:, :, 2] = (1 - size)[:, None] * (2 * draw(count, 2) - 1)
    grid = affine_grid(theta, [count, 3, side, side], align_corners=False)
    windows = grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    gain = (0.6 + 0.8 * draw(count, 1, 1, 1)) * (0.8 + 0.4 * draw(count, 3, 1, 1))
    windows = windows * gain + 0.4 * draw(count, 1, 1, 1) - 0.2
    order = draw(count, 3).argsort(dim=1)[:, :, None, None].expand_as(windows)
    windows = torch.where((draw(count) < 0.3)[:, None, None, None], windows.gather(1, order), windows)
    grey = windows.mean(dim=1, keepdim=True).expand_as(windows)
    return torch.where((draw(count) < 0.2)[:, None, None, None], grey, windows).clamp(-1, 1), theta


def same_places(ours: Tensor, theirs: Tensor, grid: int) -> Tensor:
    """Where the centres of a window's `grid` x `grid` patches lie in another window of the same picture.

    Args:
        ours: where the window lies, as `crops` says, `(B, 2, 3)`.
        theirs: the same of the other.
        grid: patches on a side.

    Returns:
        `(B, grid, grid, 2)`, x before y; outside of [-1, 1] where the other window does not show the place.
    """
    centres = (2 * torch.arange(grid) + 1) / grid - 1
    places = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).to(ours)
    (scale, shift), (other_scale, other_shift) = (
        (theta[:, None, None, [0, 1], [0, 1]], theta[:, None, None, :, 2]) for theta in (ours, theirs)
    )
    return (places * scale + shift - other_shift) / other_scale


@torch.no_grad()
def balanced(scores: Tensor, rounds: int = 3) -> Tensor:
    """Teacher's scores `(M, K)` to targets that use every prototype equally often (Sinkhorn-Knopp)."""
    share = ((scores - scores.max()) / _TEACHER).exp()
    for _ in range(rounds):
        share = share / share.sum(dim=0, keepdim=True).clamp(min=1e-12)
        share = share / share.sum(dim=1, keepdim=True)
    return share


def _projector(width: int) -> nn.Module:
    """From a token to a direction in 128 dimensions."""
    return nn.Sequential(nn.Linear(width, 512), nn.GELU(), nn.Linear(512, 128))


class _Head(nn.Module):
    """From a token to its cosine with each of the prototypes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.steps = _projector(width)
        self.prototypes = nn.Linear(128, _PROTOTYPES, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(M, D)` to `(M, K)`."""
        cosines = normalize(self.steps(tokens).float(), dim=1) @ normalize(self.prototypes.weight, dim=1).T
        return cosines.float()


class DistillationObjective(Objective):
    """A student sees crops of a picture, some with patches masked; its teacher, its own running average, sees
    two large ones whole. Among a batch's, each CLS token of the student must find the teacher's of another
    crop of its picture; its masked patches must agree with the teacher's of the same crop, and all its
    patches with what the teacher sees at the same place in the other large crop.
    """

    def __init__(self) -> None:
        """Builds the untrained student and its teacher."""
        super().__init__()
        vision = build_vision()
        # In training on a CPU, plain attention takes half the time of the fused kernel's backward pass.
        vision.set_attn_implementation("eager")
        width = vision.config.hidden_size
        self.student = nn.ModuleDict({"vision": vision, "whole": _projector(width), "patch": _Head(width)})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`whole`, `patches` and `crossed` are cross-entropies, `found` how often a crop finds its own."""
        assert batch.images is not None
        pictures, count = to_unit(batch.images), len(batch.images)
        windows = [crops(pictures, _LARGE, (0.5, 1.0), generator) for _ in range(2)]
        large = to_input(torch.cat([window for window, _ in windows]))
        small = to_input(
            torch.cat([crops(pictures, _SMALL, (0.25, 0.5), generator)[0] for _ in range(_SMALL_CROPS)])
        )
        there = torch.cat([same_places(windows[i][1], windows[1 - i][1], _GRID) for i in range(2)])
        shown = (there.abs() < 1).all(dim=-1).flatten(1)
        masked = torch.rand(2 * count, _GRID**2, generator=generator).to(large.device) < _MASKED
        masked &= (torch.rand(2 * count, 1, generator=generator) < 0.5).to(large.device)
        masked[0, 0] = True
        with torch.no_grad():
            seen = self.teacher["vision"](large).last_hidden_state
            goals = normalize(self.teacher["whole"](seen[:, 0]).float(), dim=1).view(2, count, -1)
            places = balanced(self.teacher["patch"](seen[:, 1:].flatten(0, 1))).view(2 * count, _GRID**2, -1)
            maps = places.roll(count, dims=0).transpose(1, 2).unflatten(2, (_GRID, _GRID))
            across = grid_sample(maps, there, padding_mode="border", align_corners=False)
            across = across.flatten(2).transpose(1, 2)
        hidden = self.student["vision"](large, bool_masked_pos=masked).last_hidden_state
        details = self.student["vision"](small).last_hidden_state[:, 0]
        tokens = torch.cat([hidden[:, 0], details])
        words = normalize(self.student["whole"](tokens).float(), dim=1).view(2 + _SMALL_CROPS, count, -1)
        pairs = [(g, v) for g in range(2) for v in range(2 + _SMALL_CROPS) if g != v]
        alike = torch.cat([words[v] @ goals[g].T for g, v in pairs]).float() / _CONTRAST
        own = torch.arange(count, device=alike.device).repeat(len(pairs))
        whole = cross_entropy(alike, own)
        cosines = self.student["patch"](hidden[:, 1:].flatten(0, 1)).view_as(places)
        patch_words = log_softmax(cosines / _STUDENT, dim=2)
        patches = -(places * patch_words).sum(dim=2)[masked].mean()
        crossed = -(across * patch_words).sum(dim=2)[shown].mean()
        found = (alike.argmax(dim=1) == own).float().mean()
        return {
            "loss": whole + patches + crossed,
            "whole": whole.detach(),
            "patches": patches.detach(),
            "crossed": crossed.detach(),
            "found": found,
        }

    @torch.no_grad()
    def after_step(self, averages: list[Tensor]) -> None:
        """The teacher follows the student."""
        torch._foreach_copy_(list(self.teacher.parameters()), averages)


def pretrain_vision(
    objects: RenderedObjects, budget: Budget, folder: Path, device: torch.device
) -> Dinov2Model:
    """Trains the vision model on the pictures; the average is kept, which was its own teacher."""
    torch.manual_seed(0)
    pictures, objective = torch.from_numpy(objects.images), DistillationObjective()

    def batches(step: int, generator: torch.Generator) -> Batch:
        return Batch(images=pictures[torch.randint(len(pictures), (budget.batch,), generator=generator)])

    watch = VisionProbe(build_probe(), pictures[:2048], [facts.category for facts in objects.facts[:2048]])
    pretrain(
        "vision", objective, batches, budget, folder, device,
        watch=lambda: watch(objective.student["vision"]),
    )  # fmt: skip
    vision: Dinov2Model = objective.student["vision"]
    vision.set_attn_implementation("sdpa")
    return vision


class VisionProbe:
    """Measures nearest-neighbour category accuracy (probe pictures among training pictures) and PCK of the
    patch tokens on the probe; labels and keypoints are for this measurement alone.
    """

    def __init__(self, probe: Probe, gallery: Tensor, names: list[str]) -> None:
        """Keeps the probe, and a gallery of training pictures with their categories."""
        self.probe, self.gallery, self.names = probe, gallery, names

    @torch.no_grad()
    def __call__(self, model: Dinov2Model) -> dict[str, float]:
        """Returns `category_accuracy`, `pck_patches` and `pck_pixels`."""
        keys, queries = self._hidden(model, self.gallery, 128), self._hidden(model, self.probe.images, 128)
        nearest = (normalize(queries[:, 0], dim=-1) @ normalize(keys[:, 0], dim=-1).T).argmax(dim=1).tolist()
        hits = [self.names[i] == c for i, c in zip(nearest, self.probe.categories, strict=True)]
        fine = self._hidden(model, self.probe.images, 224)[:, 1:].transpose(1, 2)
        grid = math.isqrt(fine.shape[-1])
        pixels = interpolate(to_unit(self.probe.images), size=(32, 32), mode="bilinear", antialias=True)
        return {
            "category_accuracy": sum(hits) / len(hits),
            "pck_patches": self.probe.pck(fine.unflatten(2, (grid, grid))),
            "pck_pixels": self.probe.pck(pixels),
        }

    def _hidden(self, model: Dinov2Model, images: Tensor, side: int) -> Tensor:
        """`(M, 1 + patches, D)` hidden states of pictures stretched to `side` (128: the centre 112 of it)."""
        return torch.cat([hidden_states(model, batch, side).cpu() for batch in images.split(64)])


@torch.no_grad()
def hidden_states(model: Dinov2Model, images: Tensor, side: int) -> Tensor:
    """`(B, 1 + patches, D)` float32 of pictures `(B, S, S, 3)` stretched to `side` (128: the centre 112)."""
    device = next(model.parameters()).device
    pictures = to_unit(images).to(device)
    if side == 128:
        pictures = pictures[:, :, 8:120, 8:120]
    else:
        pictures = interpolate(pictures, size=(side, side), mode="bilinear")
    hidden: Tensor = model(to_input(pictures)).last_hidden_state
    return hidden.float()
