"""Steerability: how far the frozen UNet's features can be moved by its cross-attention input alone."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from sd4match_lib.data import PairDataset
from sd4match_lib.features.stable_diffusion import StableDiffusionFeatures
from sd4match_lib.features.stores import LatentStore
from sd4match_lib.features.text import TextEncoder
from sd4match_lib.geometry import clamp_points, stretch_points, to_grid
from sd4match_lib.loss import matching_loss
from sd4match_lib.profile import Profile
from sd4match_lib.progress import progress
from sd4match_lib.prompts import Prompt
from sd4match_lib.prompts.base import PromptBatch, Scope

_PAIRS, _RATE = 4, 3e-2


class FreeContext(Prompt):
    """A context that goes straight to the UNet's cross-attention, past the text model.

    A probe of what the UNet could do, not the paper's prompt, which is learned before the text model.
    """

    scope = Scope.DATASET

    def __init__(self, start: Tensor) -> None:
        """Starts from a context `(1, 77, D)`."""
        super().__init__()
        self.rows = nn.Parameter(start.detach().clone())

    def tokens(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """The context has no tokens of its own: it gives the empty prompt's."""
        return encoder.embed_prompt([""] * len(batch))

    def context(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """The context itself, the same for every image, `(B, 77, D)`."""
        return self.rows.expand(len(batch), -1, -1)

    def identity(self) -> dict[str, Any]:
        """Kind and hash of the tuned numbers."""
        return {
            "kind": "free context",
            "rows": hashlib.sha256(self.rows.detach().numpy().tobytes()).hexdigest(),
        }


def tune_context(
    profile: Profile, model: StableDiffusionFeatures, store: LatentStore, pairs: PairDataset, steps: int
) -> FreeContext:
    """Tunes the cross-attention input with the matching loss, at the training timestep (Adam).

    Args:
        profile: frame of the network input, timestep, seed.
        model: the frozen features.
        store: its latents.
        pairs: training pairs, four of which are drawn each step.
        steps: how many steps.
    """
    context = FreeContext(model.text.encode_prompt([""]))
    optimizer = torch.optim.Adam(context.parameters(), lr=_RATE)
    order = torch.Generator().manual_seed(profile.seed)
    for step in progress(range(steps), description="steering", unit="step"):
        chosen = [pairs[i] for i in torch.randint(len(pairs), (_PAIRS,), generator=order).tolist()]
        records = [pair.src for pair in chosen] + [pair.trg for pair in chosen]
        features = model.features(
            store.get(records),
            [record.image_id for record in records],
            context.rows,
            timestep=profile.features.train_timestep,
            seed=f"{profile.seed}/{step}",
        )
        src, trg = features.chunk(2)
        hw_ft = (src.shape[2], src.shape[3])
        longest = max(len(pair.src_px) for pair in chosen)
        points = torch.zeros(2, len(chosen), longest, 2)
        valid = torch.zeros(len(chosen), longest, dtype=torch.bool)
        for row, pair in enumerate(chosen):
            valid[row, : len(pair.src_px)] = True
            for side, (xy, record) in enumerate(((pair.src_px, pair.src), (pair.trg_px, pair.trg))):
                hw_in = profile.model.image_hw
                inside = clamp_points(stretch_points(torch.as_tensor(xy), record.hw_px, hw_in), hw_in)
                points[side, row, : len(xy)] = to_grid(inside, hw_in=hw_in, hw_ft=hw_ft)
        loss = matching_loss(src, trg, points[0], points[1], valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return context
