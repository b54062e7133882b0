"""What is known of an image before it is denoised: the VAE's answer, and the noise that belongs to it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Latents:
    """What the VAE says about a batch of images, before any sampling: encode once, sample often.

    Attributes:
        mean: (B, 4, H/f, W/f) float32, not yet scaled.
        std: (B, 4, H/f, W/f) float32.
    """

    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        """How many images."""
        return len(self.mean)


def image_noise(seed: int | str, image_id: str, member: int | str, shape: Sequence[int]) -> Tensor:
    """Draw the standard normal noise that belongs to one image and one member of the ensemble.

    Args:
        seed: the experiment's seed; training passes a new one each step.
        image_id: `ImageRecord.image_id`.
        member: index in the ensemble, or a word for another use of randomness.
        shape: of the noise, without a batch axis.

    Returns:
        float32 on the CPU, the same on every machine.
    """
    digest = hashlib.sha256(f"{seed}\x1f{image_id}\x1f{member}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(tuple(shape), generator=generator)
