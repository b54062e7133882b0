"""Single: one learned prompt for everything (Sec. 3.2 of the paper)."""

from typing import Any

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.prompts.base import PromptBatch, Scope
from sd4match_lib.prompts.learned import DEFAULT_LENGTH, RANDOM_START, LearnedPrompt, Space, start_embeddings


class SinglePrompt(LearnedPrompt):
    """One prompt, `theta` (P, D), shared by all images of all categories."""

    kind = "single"
    scope = Scope.DATASET

    def __init__(
        self,
        token_width: int,
        *,
        length: int = DEFAULT_LENGTH,
        space: Space | str = Space.TOKENS,
        init: str = RANDOM_START,
    ) -> None:
        """Make a prompt of zeros; `initialise` gives it its start.

        Args:
            token_width: `D`, width of the text model's tokens.
            length: `P`, number of learned rows.
            space: "tokens" (the paper) or "hidden".
            init: "random" (the paper), "empty", or a text such as "a photo of an object".
        """
        super().__init__(space)
        self.init = init
        self.theta = nn.Parameter(torch.zeros(length, token_width))

    def embeddings(self, batch: PromptBatch) -> Tensor:
        """Return the prompt once per row, (B, P, D)."""
        return self.theta.expand(len(batch), -1, -1)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments; see `LearnedPrompt.config`."""
        length, width = self.theta.shape
        return {"token_width": width, "length": length, "space": str(self.space), "init": self.init}

    def initialise(self, encoder: TextEncoder, seed: int) -> None:
        """Start from `init`; see `LearnedPrompt.initialise`."""
        generator = torch.Generator().manual_seed(seed)
        self.theta.data = start_embeddings(self.init, len(self.theta), encoder, generator, self.space)
