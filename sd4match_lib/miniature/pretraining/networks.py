"""The miniature's untrained networks: SD2-1's and DINOv2's architectures from diffusers and transformers, a
few million parameters each.
"""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, Dinov2Config, Dinov2Model

TEXT_WIDTH = 128
_LOUDNESS = 3.0


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
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        # Attention among all 32 x 32 cells would take about a quarter of the time; they attend to words only.
        only_cross_attention=(True, False, False),
        block_out_channels=(64, 128, 160),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 4, 5),
        use_linear_projection=True,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A four-layer CLIP text model whose final layer norm starts loud, so that a context can weigh on the
    UNet from the start.
    """
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            hidden_act="gelu",
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    inner = getattr(model, "text_model", model)
    torch.nn.init.constant_(inner.final_layer_norm.weight, _LOUDNESS)
    return model


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
