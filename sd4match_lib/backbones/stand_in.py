"""Parts of SD2-1's true shapes that know nothing: for what hangs on sizes alone, such as time and memory."""

from typing import Any


def build_unet() -> Any:
    """Return a UNet of SD2-1's shapes."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=96,
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        use_linear_projection=True,
    )


def build_vae() -> Any:
    """Return an autoencoder of SD2-1's shapes."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=768,
    )


def build_text_model() -> Any:
    """Return a text model of SD2-1's shapes."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
    )
