"""What families of latent diffusion models share: stock parts of diffusers and transformers, frozen.

A model's folder is in diffusers layout: the denoiser, an autoencoder, text models with their tokenizers, and
a scheduler.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import DiffusionBackbone, TextEncoder
from sd4match_lib.backbones.loading import config_number, importing, load_part, quiet_loading
from sd4match_lib.errors import UserError

ENCODER_FILES = ("vae/diffusion_pytorch_model.safetensors", "vae/config.json")
SHARED_FILES = (
    *ENCODER_FILES,
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "scheduler/scheduler_config.json",
)


class StockTextEncoder(TextEncoder):
    """A frozen text model of transformers and its tokenizer; see `TextEncoder`.

    `fill_id` is the token id of the rows behind the end token of a learned prompt.
    """

    def __init__(self, model: Any, tokenizer: Any, words: nn.Embedding, *, length: int, fill_id: int) -> None:
        """Freeze a stock model."""
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer: Any = tokenizer
        self.words, self.length, self.fill_id = words, length, fill_id
        self.width = words.embedding_dim
        self.most_rows = length - self.starts - 1

    @property
    def device(self) -> torch.device:
        """Where the text model lies."""
        return self.words.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the text model computes in."""
        return self.words.weight.dtype

    def token_ids(self, strings: Sequence[str]) -> Tensor:
        """Tokenise to fixed and words' ids, end, then the tokenizer's own padding; see `TextEncoder`."""
        encoded = self.tokenizer(
            list(strings), padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        return encoded["input_ids"].to(self.device)

    def random_ids(self, generator: torch.Generator) -> Tensor:
        """Draw words between the fixed tokens; see `TextEncoder.random_ids`."""
        ids = torch.randint(self.words.num_embeddings, (1, self.length), generator=generator)
        return self._fix(ids.to(self.device), self.length - 1)

    def vocabulary(self) -> tuple[list[str], Tensor]:
        """See `TextEncoder.vocabulary`; tables may have more rows than there are words."""
        count = min(len(self.tokenizer), self.words.num_embeddings)
        written = self.tokenizer.convert_ids_to_tokens(list(range(count)))
        # How CLIP's tokenizer marks the end of a word, and T5's its beginning.
        return [word.replace("</w>", "").replace("\u2581", "") for word in written], self.words.weight[:count]

    def assemble(self, learned: Tensor) -> Tensor:
        """Put learned rows before the end token, behind the start token where there is one.

        They stay as they are (no position embedding is added); every fixed row carries the position embedding
        of its own place.

        Args:
            learned: (B, P, D); gradients flow back to it.

        Returns:
            (B, L, D) in `learned`'s dtype.

        Raises:
            UserError: the prompt has more rows than fit, or another width than the text model.
        """
        rows, width = learned.shape[-2:]
        if rows > self.most_rows:
            raise UserError(
                f"prompt length {rows} does not fit: the text model has {self.length} positions, of which "
                f"start and end tokens take {self.starts + 1}; use at most {self.most_rows}."
            )
        if width != self.width:
            raise UserError(
                f"the prompt is {width} wide and this text model {self.width}; it was made for another model."
            )
        end = self.starts + rows
        ids = torch.full((1, self.length), self.fill_id, dtype=torch.long, device=self.device)
        fixed = self.embed_ids(self._fix(ids, end)).to(learned).expand(len(learned), -1, -1)
        return torch.cat([fixed[:, : self.starts], learned, fixed[:, end:]], dim=1)

    def _fix(self, ids: Tensor, end: int) -> Tensor:
        if self.starts:
            ids[:, 0] = self.tokenizer.bos_token_id
        ids[:, end] = self.tokenizer.eos_token_id
        return ids


class LatentDiffusion(DiffusionBackbone):
    """A frozen latent diffusion model in diffusers layout; a family says which classes its parts are of.

    Attributes:
        part: the denoiser's folder.
        denoiser_kind: its class in diffusers.
        text_kinds: the text models' classes in transformers.
        tokenizer_kind: that of their tokenizers.
        width_name: what a text model's configuration calls `D`.
        context_name: what the denoiser's configuration calls the width of its context.
    """

    part: ClassVar[str]
    denoiser_kind: ClassVar[str]
    text_kinds: ClassVar[tuple[str, ...]]
    tokenizer_kind: ClassVar[str]
    width_name: ClassVar[str]
    context_name: ClassVar[str]
    encoder_files = ENCODER_FILES

    def __init__(self, denoiser: Any, vae: Any, text: TextEncoder, scheduler: Any) -> None:
        """Freeze stock diffusers modules."""
        self.denoiser: Any = denoiser.eval().requires_grad_(False)
        self.vae = vae.eval().requires_grad_(False)
        self.text = text
        self.scheduler: Any = scheduler

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        *,
        layers: Sequence[str],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Load a model in diffusers layout, less the VAE's decoder; see `DiffusionBackbone.from_folder`."""
        with importing("diffusers"):
            import diffusers

            kind = getattr(diffusers, cls.denoiser_kind)
        with quiet_loading():
            denoiser = load_part(kind, folder, cls.part, dtype=dtype)
            vae = load_part(diffusers.AutoencoderKL, folder, "vae", dtype=dtype)
            # `add_noise` only knows the betas, which every scheduler class reads alike from the model's own
            # file.
            scheduler = load_part(diffusers.DDIMScheduler, folder, "scheduler")
        cls.cut(denoiser, layers, Path(folder) / cls.part)
        vae.decoder = nn.Identity()
        text = cls.load_text(folder, dtype=dtype, device=device)
        for field, number, whose in (
            ("in_channels", vae.config.latent_channels, "channels of the VAE's latents"),
            (cls.context_name, text.width, "width of the text model"),
        ):
            if (found := denoiser.config[field]) != number:
                raise UserError(
                    f"{Path(folder) / cls.part / 'config.json'}, field {field!r}: {found} is not {number}, "
                    f"the {whose}; these are parts of different models: copy or fetch the model again."
                )
        return cls(denoiser.to(device), vae.to(device), text, scheduler)

    @classmethod
    @abstractmethod
    def cut(cls, denoiser: Any, layers: Sequence[str], where: Path) -> None:
        """Let go of what lies behind the last of `layers`.

        Raises:
            UserError: there is no such layer, or the model of the folder `where` is of another family.
        """

    @classmethod
    def load_text(
        cls, folder: Path | str, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> TextEncoder:
        """Load text models and tokenizers; see `DiffusionBackbone.load_text`."""
        import transformers

        loaded = []
        with quiet_loading():
            for kind, part in cls._text_parts():
                model = load_part(getattr(transformers, kind), folder, part, dtype=dtype)
                words = part.replace("text_encoder", "tokenizer")
                tokenizer = load_part(getattr(transformers, cls.tokenizer_kind), folder, words)
                loaded.append((model.to(device), tokenizer))
        return cls.text_of(*loaded)

    @classmethod
    @abstractmethod
    def text_of(cls, *loaded: tuple[Any, Any]) -> TextEncoder:
        """Make the text encoder of models and their tokenizers."""

    @classmethod
    def token_width(cls, folder: Path) -> int:
        """See `DiffusionBackbone.token_width`; several text models' rows lie side by side."""
        parts = [part for _, part in cls._text_parts()]
        return sum(config_number(folder / part / "config.json", cls.width_name) for part in parts)

    @classmethod
    def _text_parts(cls) -> Iterator[tuple[str, str]]:
        return zip(cls.text_kinds, ("text_encoder", "text_encoder_2"), strict=False)

    @property
    def device(self) -> torch.device:
        """Where the denoiser lies."""
        return self.denoiser.device

    @property
    def dtype(self) -> torch.dtype:
        """What the denoiser computes in."""
        return self.denoiser.dtype

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """See `DiffusionBackbone.add_noise`."""
        steps = torch.full((len(clean),), timestep, dtype=torch.long)
        noisy: Tensor = self.scheduler.add_noise(clean, noise, steps)
        return noisy

    @contextmanager
    def learning(self, *, checkpoint_activations: bool) -> Iterator[None]:
        """See `DiffusionBackbone.learning`."""
        if checkpoint_activations:
            self.denoiser.enable_gradient_checkpointing()
        try:
            yield
        finally:
            if checkpoint_activations:
                self.denoiser.disable_gradient_checkpointing()
