"""Looking at learned prompts: their nearest words, how alike they are, what in a picture moves them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from sd4match_lib.backbones.base import DiffusionBackbone, TextEncoder
from sd4match_lib.backbones.vision import VisionTokens
from sd4match_lib.backbones.weights import find_diffusion, find_vision
from sd4match_lib.config.names import BACKBONES
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.data.types import Pair
from sd4match_lib.features.loaded import vision_model
from sd4match_lib.features.stores import VisionStore
from sd4match_lib.prompts.base import Prompt, PromptBatch
from sd4match_lib.prompts.cpm import ConditionalPrompt
from sd4match_lib.prompts.factory import make_prompt, new_prompt
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.prompts.per_class import ClassPrompt


def load_text_encoder(profile: Profile) -> TextEncoder:
    """Return the profile's text model alone, on the CPU."""
    folder = find_diffusion(profile.model, profile.cache_path).folder
    backbone: type[DiffusionBackbone] = BACKBONES.load(profile.model.backbone)
    return backbone.load_text(folder)


def untrained_prompt(
    profile: Profile,
    kind: str,
    *,
    dataset: str = "spair",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> LearnedPrompt:
    """Return the prompt that `train` with the same arguments starts from, frozen."""
    categories = open_dataset(profile.dataset(dataset), "train").categories
    prompt = new_prompt(kind, profile, categories, options or {})
    prompt.initialise(load_text_encoder(profile), seed)
    return prompt.eval().requires_grad_(False)


def pair_batch(profile: Profile, pairs: Sequence[Pair]) -> PromptBatch:
    """Return what a prompt may look at of some pairs: names, categories, and the vision model's tokens."""
    found = find_vision(profile.vision, profile.cache_path)
    store = VisionStore(vision_model(found, profile.vision, torch.device("cpu")), found, profile.cache_path)
    srcs, trgs = [pair.src for pair in pairs], [pair.trg for pair in pairs]
    return PromptBatch(
        tuple(record.image_id for record in srcs),
        tuple(record.category for record in srcs),
        tuple(record.image_id for record in trgs),
        store.get(srcs),
        store.get(trgs),
    )


@torch.no_grad()
def anatomy(prompt: LearnedPrompt, batch: PromptBatch, encoder: TextEncoder) -> list[dict[str, str]]:
    """Say what a learned prompt is made of, and what it gives for some pairs or pictures.

    Returns:
        Rows of `what`, `shape` and `numbers`: each learned parameter, all of them, and the two things that
        come out, which hold no parameter of their own.
    """
    rows = [
        {"what": f"learned: {name}", "shape": _shape(value), "numbers": f"{value.numel():,}"}
        for name, value in prompt.named_parameters()
    ]
    total = sum(value.numel() for value in prompt.parameters())
    rows.append(
        {"what": f"all that is learned ({type(prompt).__name__})", "shape": "", "numbers": f"{total:,}"}
    )
    given = {
        "its rows for this batch": prompt.embeddings(batch),
        "what the UNet reads": prompt.context(batch, encoder),
    }
    return rows + [{"what": name, "shape": _shape(value), "numbers": ""} for name, value in given.items()]


@torch.no_grad()
def compare_prompts(
    profile: Profile, prompts: Mapping[str, Prompt | str], pair: Pair
) -> list[dict[str, str]]:
    """Call prompts once on a pair's source, and say what each asks for and what the UNet reads of it.

    Args:
        profile: the experiment.
        prompts: what a row is called -> a prompt, or the name of one; the first is what others are compared
            with.
        pair: what they look at.

    Returns:
        Rows of `prompt`, `depends on`, `what the UNet reads` (shape) and `like the first` (the cosine between
        the two, over all tokens).
    """
    encoder, batch = load_text_encoder(profile), pair_batch(profile, [pair])
    rows: list[dict[str, str]] = []
    first: Tensor | None = None
    for name, wanted in prompts.items():
        prompt = wanted if isinstance(wanted, Prompt) else make_prompt(wanted, profile)
        context = prompt.eval().context(batch, encoder).float()
        first = context if first is None else first
        alike = cosine_similarity(context.flatten(), first.flatten(), dim=0).item()
        seen = {"prompt": name, "depends on": str(prompt.scope), "what the UNet reads": _shape(context)}
        rows.append({**seen, "like the first": f"{alike:.2f}"})
    return rows


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape))


@torch.no_grad()
def nearest_words(rows: Tensor, encoder: TextEncoder) -> pd.DataFrame:
    """Find the vocabulary's word nearest to each learned row, by cosine.

    Args:
        rows: (P, D) learned rows of the space `tokens`; each row's position embedding is taken out first.
            Where a model has several text encoders, a word is its embeddings side by side, as a row is.
        encoder: the text model that they were learned for.

    Returns:
        One row per learned row: row (from 1), word, cosine.
    """
    words, table = encoder.vocabulary()
    bare = rows.float() - encoder.positions(len(rows)).float()
    best = (normalize(bare, dim=1) @ normalize(table.float(), dim=1).T).max(dim=1)
    nearest = [words[place] for place in best.indices.tolist()]
    return pd.DataFrame(
        {
            "row": range(1, len(rows) + 1),
            "word": nearest,
            "cosine": [round(v, 3) for v in best.values.tolist()],
        }
    )


@torch.no_grad()
def context_similarity(prompt: ClassPrompt, encoder: TextEncoder) -> pd.DataFrame:
    """Compare the prompts of a Class prompt as the UNet sees them.

    Returns:
        (K, K) cosines between the contexts, what all categories share taken out; named by category.
    """
    names = prompt.categories
    contexts = prompt.context(PromptBatch(names, names), encoder).float().flatten(1)
    unit = normalize(contexts - contexts.mean(dim=0), dim=1)
    return pd.DataFrame((unit @ unit.T).numpy(), index=names, columns=names)


def patch_saliency(prompt: ConditionalPrompt, batch: PromptBatch) -> tuple[Tensor, Tensor]:
    """Say which patches the prompt of a CPM on pairs and local features listens to, in `B` pairs.

    Returns:
        For the sources and the targets (B, M): how strongly the learned rows change with a patch's tokens
        (the gradient's norm), as a share of the pair's total.
    """
    assert batch.vision is not None and batch.trg_vision is not None
    inputs = [tokens.patches.clone().requires_grad_(True) for tokens in (batch.vision, batch.trg_vision)]
    sides = [VisionTokens(p, t.cls) for p, t in zip(inputs, (batch.vision, batch.trg_vision), strict=True)]
    rows = prompt.embeddings(replace(batch, vision=sides[0], trg_vision=sides[1]))
    # A fixed random direction in place of the whole Jacobian: unbiased for its norm, one backward pass.
    probe = torch.randn(rows.shape[1:], generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad((rows * probe).sum(), inputs)
    norms = [gradient.norm(dim=2) for gradient in gradients]
    total = (norms[0].sum(dim=1) + norms[1].sum(dim=1))[:, None]
    return norms[0] / total, norms[1] / total
