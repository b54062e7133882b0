"""CPM, the conditional prompting module: a prompt for a pair, made from what a vision model sees (Sec. 3.3).

Its ablation (Fig. 3a) is its configuration: conditioning on the pair or on one image, on local features or on
a global descriptor, with or without the global prompt and the mixing of patches.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool1d, layer_norm

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.backbones.device import send
from sd4match_lib.backbones.vision import VisionTokens
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import PromptBatch, Scope
from sd4match_lib.prompts.learned import LearnedPrompt, Space, check_fit

_CHOICES = {
    "condition_on": ("pair", "image"),
    "features": ("local", "global"),
    "modulation": ("released", "paper"),
}


class ConditionalPrompt(LearnedPrompt):
    """A prompt from the patch tokens of both images of a pair.

    Symbols: `Dv` width and `M` number of the vision model's patch tokens, `D` token width.

    Attributes:
        theta_global: (G, D), the part that is the same for all pairs.
        omega_alpha: (C, D), how the features are scaled per conditional row.
        omega_pos: (C, D), what distinguishes the conditional rows.
        g_d: linear over the feature axis, `2 Dv -> D` (`Dv -> D` when conditioned on one image).
        g_n: linear over the patch axis, `M -> M`, or None.
    """

    kind = "cpm"
    needs_vision = True

    def __init__(
        self,
        token_width: int,
        vision_width: int,
        patches: int,
        *,
        length_global: int = 25,
        length_condition: int = 50,
        condition_on: Literal["pair", "image"] = "pair",
        features: Literal["local", "global"] = "local",
        use_global: bool = True,
        mix_patches: bool = True,
        modulation: Literal["released", "paper"] = "released",
        normalise: bool = False,
        space: Space | str = Space.TOKENS,
    ) -> None:
        """Make an untrained module; `initialise` seeds its weights.

        Args:
            token_width: `D`.
            vision_width: `Dv`.
            patches: `M`.
            length_global: `G`, rows of the global prompt.
            length_condition: `C`, rows that depend on the pair.
            condition_on: the "pair" (the paper), or each "image" for itself.
            features: "local" patch tokens (the paper), or the "global" descriptor (CLS).
            use_global: whether the global prompt stands before the conditional rows.
            mix_patches: whether `g_n` mixes the patches before they are pooled.
            modulation: "released": `tanh(alpha) * (F + pos)`; "paper": `F * alpha + pos`.
            normalise: whether each token of the vision model is brought to mean 0 and deviation 1 first; not
                in the paper.
            space: "tokens" (the paper) or "hidden".

        Raises:
            UserError: a word that is none of these.
        """
        super().__init__(space)
        for name, value in (
            ("condition_on", condition_on),
            ("features", features),
            ("modulation", modulation),
        ):
            if value not in _CHOICES[name]:
                raise UserError(f"{name} is {value!r}; use one of {', '.join(_CHOICES[name])}.")
        self.scope = Scope.PAIR if condition_on == "pair" else Scope.IMAGE
        self._config: dict[str, Any] = {
            "token_width": token_width,
            "vision_width": vision_width,
            "patches": patches,
            "length_global": length_global,
            "length_condition": length_condition,
            "condition_on": condition_on,
            "features": features,
            "use_global": use_global,
            "mix_patches": mix_patches,
            "modulation": modulation,
            "normalise": normalise,
            "space": str(self.space),
        }
        images = 2 if condition_on == "pair" else 1
        self.g_d = nn.Linear(images * vision_width, token_width)
        self.g_n = nn.Linear(patches, patches) if mix_patches and features == "local" else None
        self.theta_global = nn.Parameter(torch.zeros(length_global if use_global else 0, token_width))
        self.omega_alpha = nn.Parameter(torch.zeros(length_condition, token_width))
        self.omega_pos = nn.Parameter(torch.zeros(length_condition, token_width))

    def embeddings(self, batch: PromptBatch) -> Tensor:
        """Return the prompts (B, G + C, D).

        Raises:
            UserError: the batch lacks vision features, or they are of another vision model.
        """
        local = self._config["features"] == "local"
        sides = [self._seen(batch.vision, batch.image_ids, "source")]
        if self.scope is Scope.PAIR:
            sides.append(self._seen(batch.trg_vision, batch.trg_image_ids, "target"))
        weight = self.g_d.weight
        if local:
            seen = torch.cat(
                [self._scaled(send(side.patches, weight.device).to(weight)) for side in sides], dim=2
            )
            mixed = self.g_d(seen).transpose(1, 2)
            mixed = mixed if self.g_n is None else self.g_n(mixed)
            found = adaptive_max_pool1d(mixed, len(self.omega_pos)).transpose(1, 2)
        else:
            found = self.g_d(
                torch.cat([self._scaled(send(side.cls, weight.device).to(weight)) for side in sides], dim=1)
            )[:, None]
        if self._config["modulation"] == "released":
            conditional = torch.tanh(self.omega_alpha) * (found + self.omega_pos)
        else:
            conditional = found * self.omega_alpha + self.omega_pos
        return torch.cat([self.theta_global.expand(len(found), -1, -1), conditional], dim=1)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments; see `LearnedPrompt.config`."""
        return dict(self._config)

    def initialise(self, encoder: TextEncoder, seed: int) -> None:
        """Draw the three matrices from [0, 1) and the linear layers as torch does; see `LearnedPrompt`."""
        length = len(self.theta_global) + len(self.omega_pos)
        check_fit(length, self.omega_pos.shape[1], encoder, self.space)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for matrix in (self.theta_global, self.omega_alpha, self.omega_pos):
                nn.init.uniform_(matrix)
            for layer in (self.g_d, self.g_n):
                if layer is not None:
                    layer.reset_parameters()

    def _scaled(self, tokens: Tensor) -> Tensor:
        return layer_norm(tokens, tokens.shape[-1:]) if self._config["normalise"] else tokens

    def _seen(self, tokens: VisionTokens | None, image_ids: Sequence[str], side: str) -> VisionTokens:
        """The vision model's tokens of one side of the batch, known to fit."""
        if tokens is None:
            images = ", ".join(image_ids[:3]) or "none given"
            raise UserError(
                f"a cpm prompt needs the vision model's tokens of the {side} images ({images}); "
                "give the prompt batch its `vision` and `trg_vision`."
            )
        wanted = (self._config["patches"], self._config["vision_width"])
        if tuple(tokens.patches.shape[1:]) != wanted:
            raise UserError(
                f"this cpm prompt was made for {wanted[0]} patches of width {wanted[1]}, the vision model "
                f"gives {tokens.patches.shape[1]} of width {tokens.patches.shape[2]}; use the vision model "
                "that it was trained with."
            )
        return tokens
