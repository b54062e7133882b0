"""The seam between prompts and diffusion models: what a model offers so that a prompt can be learned for it.

A family of models is one file with a `TextEncoder` and a `DiffusionBackbone`, and one line in `config.names`.
Nothing outside that file knows what the model is made of: layers have names, a context is what the text
encoder returned, and all randomness belongs to the image.

Symbols: `B` batch, `L` token positions, `P` learned rows, `D` token width, `C` channels, `H W` network input
in pixels, `h w` feature grid, `E` ensemble members.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sd4match_lib.backbones.device import send
from sd4match_lib.backbones.latents import Latents, image_noise
from sd4match_lib.errors import UserError
from sd4match_lib.geometry import HW


class TextEncoder(ABC):
    """A frozen text model: strings to token embeddings, token embeddings to a context.

    Learned prompts live between the two (Sec. 3.2 of the paper).

    Attributes:
        length: `L`.
        width: `D`.
        starts: how many fixed tokens stand before the learned rows.
        most_rows: how many learned rows fit beside the fixed tokens.
    """

    length: int
    width: int
    starts: int
    most_rows: int

    def __init__(self) -> None:
        """Begin without contexts."""
        self._contexts: dict[str, Tensor] = {}

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the text model lies."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What the text model computes in."""

    @abstractmethod
    def token_ids(self, strings: Sequence[str]) -> Tensor:
        """Tokenise `B` strings to (B, L) int64 ids on the text model's device; too long is cut."""

    @abstractmethod
    def random_ids(self, generator: torch.Generator) -> Tensor:
        """Draw (1, L) ids of a prompt of random words between the fixed tokens."""

    @abstractmethod
    def embed_ids(self, token_ids: Tensor) -> Tensor:
        """Return what the embedding layer makes of (B, L) ids, (B, L, D), without gradients."""

    @abstractmethod
    def vocabulary(self) -> tuple[list[str], Tensor]:
        """Return the `V` words as people write them, and their embeddings (V, D) without a position."""

    @abstractmethod
    def positions(self, rows: int) -> Tensor:
        """Return what the embedding layer adds to words in the places of learned rows, (P, D)."""

    @abstractmethod
    def assemble(self, learned: Tensor) -> Tensor:
        """Put learned rows (B, P, D) where words would stand: (B, L, D), with gradients.

        Raises:
            UserError: the rows do not fit this text model.
        """

    @abstractmethod
    def encode_tokens(self, token_embeds: Tensor) -> Tensor:
        """Run the text model on token embeddings (B, L, D), in place of its embedding layer's output.

        Returns:
            The context (B, R, D') in the text model's dtype: everything of the prompt that conditions the
            diffusion model, packed as its backbone expects it; (B, L, D) for Stable Diffusion. Gradients
            flow.

        Raises:
            UserError: the shape is not this text model's.
        """

    def embed_prompt(self, strings: Sequence[str]) -> Tensor:
        """Return the token embeddings (B, L, D) of `B` strings, as the text model itself would make them."""
        return self.embed_ids(self.token_ids(strings))

    def check_shape(self, token_embeds: Tensor) -> None:
        """Make sure that token embeddings are (B, L, D) of this text model.

        Raises:
            UserError: they are not.
        """
        if token_embeds.shape[1:] != (self.length, self.width):
            raise UserError(
                f"token embeddings are {tuple(token_embeds.shape)}, this text model needs "
                f"(batch, {self.length}, {self.width}); they were made for another model."
            )

    def encode_prompt(self, strings: Sequence[str]) -> Tensor:
        """Return the contexts of `B` strings; the model runs once per distinct string, ever."""
        for string in dict.fromkeys(strings):
            if string not in self._contexts:
                # One at a time: what a string becomes must not depend on its company in a batch.
                with torch.no_grad():
                    self._contexts[string] = self.encode_tokens(self.embed_prompt([string]))
        return torch.cat([self._contexts[string] for string in strings])


class DiffusionBackbone(ABC):
    """A frozen text-to-image diffusion model, asked for the features of named layers at one denoising step.

    Attributes:
        files: what a model's folder must hold, relative to it; "a|b" is one of the two.
        weights_file: the one whose hash a profile may state.
        encoder_files: those that decide the latents.
        text: the text model.
        most_rows: images times noises that fit one pass without gradients, where memory ran out above; else
            None.
        vae: a stock autoencoder; a model without one overrides `latent_shape`, `encode` and `sample`.
    """

    files: ClassVar[tuple[str, ...]]
    weights_file: ClassVar[str]
    encoder_files: ClassVar[tuple[str, ...]]
    text: TextEncoder
    most_rows: int | None = None
    vae: Any

    @classmethod
    @abstractmethod
    def from_folder(
        cls,
        folder: Path | str,
        *,
        layers: Sequence[str],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Load a model for reading some layers; what lies behind the last of them is not kept.

        Args:
            folder: a local folder; see `weights.find_diffusion` for hub ids and mirrors.
            layers: names of the layers that will be read.
            dtype: what everything computes in.
            device: where everything lies.

        Raises:
            UserError: a part of the model is missing or unreadable, or there is no such layer.
        """

    @classmethod
    @abstractmethod
    def load_text(
        cls, folder: Path | str, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> TextEncoder:
        """Load the text model alone; see `from_folder`."""

    @classmethod
    @abstractmethod
    def token_width(cls, folder: Path) -> int:
        """Return `D` from the configuration files alone."""

    @classmethod
    @abstractmethod
    def grid_hw(cls, folder: Path, *, image_hw: HW, layer: str) -> HW:
        """Return the size (h, w) of a layer's features from the configuration files alone.

        Raises:
            UserError: there is no such layer.
        """

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model lies."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What the model computes in."""

    @abstractmethod
    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Return the noised latents (B, c, H/f, W/f) of a diffusion step, 0 to 999."""

    @abstractmethod
    def read_layers(
        self, noisy: Tensor, timestep: int, context: Tensor, layers: Sequence[str]
    ) -> list[Tensor]:
        """Run the denoiser once, as far as the last of `layers`.

        Args:
            noisy: (B, c, H/f, W/f) on the model's device, in its dtype.
            timestep: diffusion step.
            context: of the text model, (B, R, D').
            layers: names, none behind those that the model was loaded for.

        Returns:
            One (B, C_k, h_k, w_k) for each layer, in their order; gradients flow back to `context`.
        """

    def make_fast(self, layers: Sequence[str]) -> None:
        """Compile what is computed often, for reading `layers`; features may then differ by rounding.

        Raises:
            UserError: this family has no fast path.
        """
        raise UserError(f"{type(self).__name__} has no fast path; leave `fast` out of the profile's model.")

    @property
    def warm_up_s(self) -> float:
        """Seconds spent on compiling since the model was loaded."""
        return 0.0

    def portion(self, images: int, ensemble: int) -> tuple[int, int]:
        """How many images, under how many noises each, go through one pass of the denoiser."""
        return min(images, self.most_rows or images), 1

    @contextmanager
    def learning(self, *, checkpoint_activations: bool) -> Iterator[None]:
        """Make the way back through the model cheap for as long as a prompt is learned.

        Args:
            checkpoint_activations: compute activations twice to save memory.
        """
        yield

    def latent_shape(self, image_hw: HW) -> tuple[int, int, int]:
        """Return the shape (c, H/f, W/f) of one picture's latents."""
        height, width = (side // self.factor for side in image_hw)
        return self.vae.config.latent_channels, height, width

    @property
    def factor(self) -> int:
        """Pixels of the network input that one cell of the latents covers, along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def encode(self, images: Tensor) -> Latents:
        """Run the VAE's encoder, image by image: its activations are the peak of memory.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            The latents on the CPU in float32; without gradients.
        """
        means, stds = [], []
        with torch.no_grad():
            for image in images.split(1):
                posterior = self.vae.encode(image.to(self.vae.device, self.vae.dtype)).latent_dist
                means.append(posterior.mean.float().cpu())
                stds.append(posterior.std.float().cpu())
        return Latents(torch.cat(means), torch.cat(stds))

    def sample(self, latents: Latents, image_ids: Sequence[str], *, seed: int | str) -> Tensor:
        """Draw `z = (mean + std * noise) * scaling_factor`, the noise by (seed, image id).

        Returns:
            (B, c, H/f, W/f) float32 on the CPU.
        """
        noise = torch.stack([image_noise(seed, name, "vae", latents.mean.shape[1:]) for name in image_ids])
        return (latents.mean + latents.std * noise) * self.vae.config.scaling_factor

    def noised(
        self,
        latents: Latents,
        image_ids: Sequence[str],
        *,
        timestep: int,
        ensemble: int = 1,
        seed: int | str = 0,
    ) -> Iterator[Tensor]:
        """Yield what the denoiser is given of `B` images, once for each member of the ensemble.

        Args: as for `features`.

        Yields:
            (B, c, H/f, W/f) float32 on the CPU.

        Raises:
            UserError: there are not as many ids as latents.
        """
        if len(image_ids) != len(latents):
            raise UserError(f"there are {len(latents)} latents but {len(image_ids)} image ids.")
        clean = self.sample(latents, image_ids, seed=seed)
        for member in range(ensemble):
            noise = torch.stack([image_noise(seed, name, member, clean.shape[1:]) for name in image_ids])
            yield self.add_noise(clean, noise, timestep)

    def features(
        self,
        latents: Latents,
        image_ids: Sequence[str],
        context: Tensor,
        layers: Sequence[str],
        *,
        timestep: int,
        ensemble: int = 1,
        seed: int | str = 0,
    ) -> list[Tensor]:
        """Return the outputs of several layers of the same passes, averaged over the ensemble.

        Args:
            latents: of `B` images.
            image_ids: their `B` ids, which decide their noises.
            context: (B, R, D'), or (1, R, D') for all alike; gradients flow back to it.
            layers: names of layers.
            timestep: diffusion step, 0 to 999.
            ensemble: `E`, number of noises averaged.
            seed: what latents and noises are drawn from.

        Returns:
            One (B, C_k, h_k, w_k) float32 for each of `layers`, in their order.

        Raises:
            UserError: there are not as many ids as latents.
        """
        context = context.to(self.device, self.dtype).expand(len(latents), -1, -1)
        while True:
            images, members = self.portion(len(latents), ensemble)
            noises = self.noised(latents, image_ids, timestep=timestep, ensemble=ensemble, seed=seed)
            sums: list[Tensor] = []
            try:
                while block := list(islice(noises, members)):
                    maps = self._read_block(torch.stack(block), timestep, context, layers, images)
                    sums = maps if not sums else [total + new for total, new in zip(sums, maps, strict=True)]
                return [total / ensemble for total in sums]
            except torch.OutOfMemoryError:
                if torch.is_grad_enabled() or images * members == 1:
                    raise
            self.most_rows = images * members // 2

    def _read_block(
        self, noisy: Tensor, timestep: int, context: Tensor, layers: Sequence[str], images: int
    ) -> list[Tensor]:
        """Sums over members (E, B, c, H/f, W/f) of some layers' outputs, `images` of the `B` at a time."""
        members = len(noisy)
        found = []
        for first in range(0, len(context), images):
            part, asked = noisy[:, first : first + images], context[first : first + images]
            count = len(asked)
            if count < images:  # filled up: each size of a pass would be compiled for itself
                part = torch.cat([part, part[:, -1:].expand(-1, images - count, -1, -1, -1)], 1)
                asked = torch.cat([asked, asked[-1:].expand(images - count, -1, -1)])
            rows = send(part.flatten(0, 1), self.device).to(self.dtype)
            asked = asked if members == 1 else asked.repeat(members, 1, 1)
            outputs = self.read_layers(rows, timestep, asked, layers)
            found.append(
                [output.float().unflatten(0, (members, images)).sum(0)[:count] for output in outputs]
            )
        return [torch.cat(parts) for parts in zip(*found, strict=True)]
