"""The miniature's untrained networks: SD2-1's and DINOv2's architectures from diffusers and transformers, a
few million parameters each.
"""

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, Dinov2Config, Dinov2Model

TEXT_WIDTH = 192


def build_vae() -> AutoencoderKL:
    """An autoencoder with four channels at a quarter of the picture's side (SD's VAE at an eighth)."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 48, 96),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
    )


def build_unet() -> UNet2DConditionModel:
    """SD2-1's block types on three levels (32, 16, 8 cells a side); the second up block gives a 32 x 32 map,
    cells of 4 px.
    """
    return UNet2DConditionModel(
        sample_size=32,
        # Attention among 32 x 32 cells would cost more than all the rest.
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 144),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        # diffusers takes these as numbers of heads: of 32, 32 and 48 dimensions.
        attention_head_dim=(2, 4, 3),
        use_linear_projection=True,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A four-layer CLIP text model."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=6,
            hidden_act="gelu",
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


class _Residual(nn.Module):
    """Two normalised convolutions beside a shortcut; halves the side where `stride` is 2."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.GroupNorm(8, inner),
            nn.SiLU(),
            nn.Conv2d(inner, outer, 3, stride, 1),
            nn.GroupNorm(8, outer),
            nn.SiLU(),
            nn.Conv2d(outer, outer, 3, 1, 1),
        )
        self.shortcut = nn.Conv2d(inner, outer, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inner, h, w)` to `(B, outer, h / stride, w / stride)`."""
        return self.shortcut(x) + self.steps(x)


def build_image_tower(width: int) -> nn.Module:
    """A small residual network from `(B, 3, 64, 64)` pictures to `(B, width)`."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1),
        _Residual(32, 64, 2),
        _Residual(64, 96, 2),
        _Residual(96, 128, 2),
        nn.GroupNorm(8, 128),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, width),
    )


def build_scheduler() -> DDIMScheduler:
    """SD2-1's noise schedule: scaled-linear betas, 1000 steps, v-prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def build_vision() -> Dinov2Model:
    """A DINOv2 of five layers: patches of 14 px, 64 of them in a 112 px crop, CLS first."""
    return Dinov2Model(
        Dinov2Config(
            image_size=112,
            patch_size=14,
            hidden_size=128,
            num_hidden_layers=5,
            num_attention_heads=4,
            mlp_ratio=4,
            drop_path_rate=0.0,
        )
    )
