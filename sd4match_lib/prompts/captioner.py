"""The implicit captioner: a prompt made from what a vision model sees in the image.

The conditioning that SD+DINO borrows from ODISE (method, section 3): the global descriptor of the image,
projected to token space, plus one learned embedding per position, through the text encoder. It is learned
once on the denoising loss and then frozen.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.backbones.device import send
from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import Prompt, PromptBatch, Scope
from sd4match_lib.prompts.prompt_file import (
    PromptFile,
    read_prompt_file,
    restore_module,
    weights_hash,
    write_prompt_file,
)
from sd4match_lib.utils.paths import resolve_path

KIND = "captioner"
LENGTH = 75


class ImplicitCaptioner(Prompt):
    """Global vision descriptor (CLS) to prompt, per image.

    Attributes:
        projection: linear, `Dv -> D`.
        positions: (P, D), what distinguishes the rows.
        about: where the weights come from, for people.
    """

    scope = Scope.IMAGE
    needs_vision = True

    def __init__(self, vision_width: int, token_width: int, length: int = LENGTH) -> None:
        """Make an untrained captioner.

        Args:
            vision_width: `Dv`, width of the vision model's descriptor.
            token_width: `D`, width of the text model's tokens.
            length: `P`, number of prompt rows, at most 75.
        """
        super().__init__()
        self.projection = nn.Linear(vision_width, token_width)
        self.positions = nn.Parameter(0.01 * torch.randn(length, token_width))
        self.about: dict[str, Any] = {}

    def learned(self, cls: Tensor) -> Tensor:
        """Return the prompt rows (B, P, D) for global descriptors (B, Dv)."""
        return self.projection(cls)[:, None] + self.positions

    def tokens(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """Return the assembled token embeddings; see `Prompt.tokens`.

        Raises:
            UserError: the batch has no vision tokens, or they or the text model have another width.
        """
        if batch.vision is None:
            raise UserError("the implicit captioner needs the vision model's tokens of the images.")
        if batch.vision.cls.shape[1] != self.projection.in_features:
            raise UserError(
                f"the captioner was trained with vision features of width {self.projection.in_features}, "
                f"the vision model gives {batch.vision.cls.shape[1]}; use the one that it was trained with."
            )
        return encoder.assemble(
            self.learned(send(batch.vision.cls, self.positions.device).to(self.positions))
        )

    def identity(self) -> dict[str, Any]:
        """Return kind and a hash of the weights; see `Prompt.identity`."""
        return {"kind": KIND, "weights": weights_hash(self.state_dict())}

    def save(self, path: Path | str, about: Mapping[str, Any]) -> None:
        """Write weights and header to a `.safetensors` file; `about`: model, data, steps, licence."""
        length, token_width = self.positions.shape
        config = {
            "vision_width": self.projection.in_features,
            "token_width": token_width,
            "length": length,
        }
        write_prompt_file(path, PromptFile(KIND, config, dict(about), self.state_dict()))

    @classmethod
    def from_profile(cls, profile: Profile) -> Self:
        """Load the profile's captioner; see `Prompt.from_profile`."""
        path = resolve_path(profile.captioner) if profile.captioner else None
        if path is None or not path.is_file():
            where = f"there is no file {path}" if path else "it names none"
            raise UserError(
                f"profile {profile.name!r} has no captioner weights ({where}); train them with "
                "`sd4match miniature pretrain captioner`, name a file as `captioner` in the profile, or use "
                "another prompt."
            )
        return cls.load(path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a captioner that `save` wrote, frozen.

        Raises:
            UserError: the file is missing, damaged or something else.
        """
        content = read_prompt_file(path, (KIND,))
        captioner = restore_module(cls, content, path)
        captioner.about = content.about
        return captioner
