"""Learned prompts as textual-inversion embeddings, which diffusers' pipelines load as new words."""

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from sd4match_lib.backbones.clip_text import ClipTextEncoder
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import PromptBatch
from sd4match_lib.prompts.learned import LearnedPrompt, Space
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.prompts.single import SinglePrompt
from sd4match_lib.utils.files import atomic_write_bytes


def embedding_vectors(prompt: LearnedPrompt, encoder: ClipTextEncoder, category: str | None = None) -> Tensor:
    """Return the vectors (P, D) of a new word that, as the whole prompt, is the learned one.

    The learned rows replace the embedding layer's output, whose position embeddings a pipeline adds: they are
    taken out here for the rows 1..P.

    Raises:
        UserError: the prompt has no such form, or the category is missing or unknown.
    """
    if prompt.space is not Space.TOKENS or not isinstance(prompt, SinglePrompt | ClassPrompt):
        raise UserError(
            "only Single and Class prompts learned before the text model are words; a cpm prompt depends on "
            "the pair, and hidden states stand behind all words."
        )
    if isinstance(prompt, ClassPrompt) and category is None:
        raise UserError(f"say which category's prompt to export: {', '.join(prompt.categories)}.")
    rows = prompt.embeddings(PromptBatch(("",), (category or "",)))[0]
    encoder.assemble(rows[None])  # complains of a prompt for another model
    return (rows - encoder.positions(len(rows)).to(rows)).detach()


def export_embedding(path: Path | str, token: str, vectors: Tensor, encoder: ClipTextEncoder) -> None:
    """Write a file for `pipeline.load_textual_inversion(path)`: one tensor, named after its word.

    Raises:
        UserError: it is no word, or one that the model's tokenizer has already, so that it cannot be added.
    """
    if token in encoder.tokenizer.get_vocab():
        raise UserError(f"the word {token!r} is in the tokenizer already; use a new one, such as <sd4match>.")
    if not token or token.split() != [token]:
        raise UserError(f"the word {token!r} must be one word without spaces, such as <sd4match>.")
    atomic_write_bytes(Path(path), save({token: vectors.cpu().float().contiguous()}))
