"""Pretraining of the miniature's text model: caption and picture find each other, as in CLIP."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, normalize
from transformers import CLIPTextModel, CLIPTokenizer

from sd4match_lib.miniature.pretraining.caption import random_caption
from sd4match_lib.miniature.pretraining.loop import Batch, Budget, Objective, pretrain
from sd4match_lib.miniature.pretraining.networks import TEXT_WIDTH, build_image_tower, build_text_encoder
from sd4match_lib.miniature.pretraining.renders import RenderedObjects
from sd4match_lib.miniature.pretraining.vae import to_unit

_JOINT = 128


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """`(B, 77)` token ids, padded and cut as Stable Diffusion's pipelines do."""
    ids: Tensor = tokenizer(
        texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


class ContrastiveObjective(Objective):
    """CLIP's loss: of a batch's captions and pictures, those that belong together are each other's nearest.

    The image tower is thrown away afterwards.
    """

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        """Builds the untrained text model and image tower."""
        super().__init__()
        self.text = build_text_encoder(tokenizer)
        self.image = build_image_tower(_JOINT)
        self.projection = nn.Linear(TEXT_WIDTH, _JOINT, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(2.7))

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`accuracy` is how often a picture finds its own caption in the batch."""
        assert batch.images is not None and batch.captions is not None
        seen = self.image(avg_pool2d(to_unit(batch.images), 2)).float()
        # Nothing attends to what follows it, so the padding after the longest caption may be left out.
        longest = int((batch.captions != batch.captions[:, -1:]).sum(dim=1).max()) + 1
        said = self.projection(self.text(batch.captions[:, :longest]).pooler_output).float()
        alike = normalize(seen, dim=1) @ normalize(said, dim=1).T * self.log_scale.clamp(max=4.6).exp()
        own = torch.arange(len(alike), device=alike.device)
        loss = (cross_entropy(alike, own) + cross_entropy(alike.T, own)) / 2
        return {"loss": loss, "accuracy": (alike.argmax(dim=1) == own).float().mean()}


def pretrain_text(
    objects: RenderedObjects, tokenizer: CLIPTokenizer, budget: Budget, folder: Path, device: torch.device
) -> CLIPTextModel:
    """Trains the text model on pictures and random captions of them."""
    torch.manual_seed(0)
    objective, pictures = ContrastiveObjective(tokenizer), torch.from_numpy(objects.images)

    def captioned(step: int, generator: torch.Generator) -> Batch:
        index = torch.randint(len(pictures), (budget.batch,), generator=generator)
        words = np.random.default_rng([step, 2])
        texts = [random_caption(objects.facts[i], words) for i in index.tolist()]
        return Batch(images=pictures[index], captions=tokenize(tokenizer, texts))

    pretrain("text", objective, captioned, budget, folder, device)
    return objective.text
