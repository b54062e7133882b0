"""Class: one learned prompt per category (Sec. 3.2 of the paper)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.data.categories import category_noun, is_category
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import PromptBatch, Scope, take_rows
from sd4match_lib.prompts.learned import DEFAULT_LENGTH, RANDOM_START, LearnedPrompt, Space, start_embeddings


class ClassPrompt(LearnedPrompt):
    """One prompt for each category, in the training data's own words: `theta` (K, P, D) in their order."""

    kind = "class"
    scope = Scope.IMAGE

    def __init__(
        self,
        token_width: int,
        categories: Sequence[str],
        *,
        length: int = DEFAULT_LENGTH,
        space: Space | str = Space.TOKENS,
        init: str = RANDOM_START,
    ) -> None:
        """Make prompts of zeros; `initialise` gives them their start.

        Args:
            token_width: `D`, width of the text model's tokens.
            categories: `K` of them.
            length: `P`, number of learned rows.
            space: "tokens" (the paper) or "hidden".
            init: "random" (the paper), "empty", or a text, with the category in the place of "{category}".

        Raises:
            UserError: there is no such space, or the categories are none, or one is there twice.
        """
        super().__init__(space)
        if isinstance(categories, str) or len(set(categories)) < len(categories):
            raise UserError(f"the categories of a class prompt are different words, not {categories!r}.")
        odd = [name for name in categories if not is_category(name)]
        if odd:
            raise UserError(
                f"{odd[0]!r} is not a category: that is a word or two, without '/' and new lines."
            )
        self.categories = tuple(categories)
        self.init = init
        self.theta = nn.Parameter(torch.zeros(len(self.categories), length, token_width))

    def embeddings(self, batch: PromptBatch) -> Tensor:
        """Return the prompt of each row's category, (B, P, D).

        Raises:
            UserError: a category was not trained on.
        """
        return take_rows(self.theta, [self._place(category) for category in batch.categories])

    def cache_keys(self, batch: PromptBatch) -> list[str]:
        """Return the places of the categories; see `Prompt.cache_keys`."""
        return [str(self._place(category)) for category in batch.categories]

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments; see `LearnedPrompt.config`."""
        _, length, width = self.theta.shape
        return {
            "token_width": width,
            "categories": list(self.categories),
            "length": length,
            "space": str(self.space),
            "init": self.init,
        }

    def initialise(self, encoder: TextEncoder, seed: int) -> None:
        """Start each category from `init`, random ones from ids of their own; see `LearnedPrompt`."""
        generator = torch.Generator().manual_seed(seed)
        length = self.theta.shape[1]
        self.theta.data = torch.stack(
            [
                start_embeddings(self.init, length, encoder, generator, self.space, name)
                for name in self.categories
            ]
        )

    def _place(self, category: str) -> int:
        for name in (category, category_noun(category)):
            if name in self.categories:
                return self.categories.index(name)
        raise UserError(
            f"this class prompt was not trained on {category!r}; it knows {', '.join(self.categories)}. "
            "Use a single or cpm prompt, or train one on this category."
        )
