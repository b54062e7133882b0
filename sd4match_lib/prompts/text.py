"""Prompts that are words: the empty string and "a photo of a {category}"."""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.data.categories import category_noun
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import Prompt, PromptBatch, Scope

TEMPLATE = "a photo of a {category}"


class StringPrompt(Prompt):
    """A prompt that is a string per row; nothing is learned."""

    @abstractmethod
    def strings(self, batch: PromptBatch) -> list[str]:
        """Return the string of each row."""

    def tokens(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """Return the strings' own token embeddings; see `Prompt.tokens`."""
        return encoder.embed_prompt(self.strings(batch))

    def context(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """Return the strings' contexts, each encoded once for good; see `Prompt.context`."""
        return encoder.encode_prompt(self.strings(batch))

    def cache_keys(self, batch: PromptBatch) -> list[str]:
        """Return the strings themselves; see `Prompt.cache_keys`."""
        return self.strings(batch)


class EmptyPrompt(StringPrompt):
    """The empty string for every image."""

    scope = Scope.DATASET

    def strings(self, batch: PromptBatch) -> list[str]:
        """Return "" for each row."""
        return [""] * len(batch)

    def identity(self) -> dict[str, Any]:
        """Return the kind; see `Prompt.identity`."""
        return {"kind": "empty"}


class TextPrompt(StringPrompt):
    """A sentence with the image's category in it, where the template has "{category}"."""

    scope = Scope.IMAGE

    def __init__(self, template: str = TEMPLATE) -> None:
        """Make the prompt from a template.

        Raises:
            UserError: the template has no "{category}".
        """
        super().__init__()
        if "{category}" not in template:
            raise UserError(
                f"the text prompt {template!r} lacks '{{category}}', where the category's name goes."
            )
        self.template = template

    def strings(self, batch: PromptBatch) -> list[str]:
        """Return the template with each row's category; PF-Willow's "car(G)" is a "car"."""
        return [self.template.replace("{category}", category_noun(name)) for name in batch.categories]

    def identity(self) -> dict[str, Any]:
        """Return kind and template; see `Prompt.identity`."""
        return {"kind": "text", "template": self.template}
