"""Tiny random models of the real architectures, written to a folder in diffusers / transformers layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = ["a", "photo", "of", "cat", "dog", "car", "the", "red"]


def write_tokenizer(folder: Path) -> int:
    """Write a CLIP tokenizer that knows letters and WORDS; returns the size of its vocabulary."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocab = ["!", *letters, *(letter + "</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        left = word[0]
        for index, letter in enumerate(word[1:], start=2):
            right = letter + "</w>" if index == len(word) else letter
            if (left, right) not in merges:
                merges.append((left, right))
                vocab.append(left + right)
            left += letter
    vocab = [*dict.fromkeys(vocab), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocab)},
        merges=merges,
        pad_token="!",
        model_max_length=77,
    )
    tokenizer.save_pretrained(folder)
    return len(vocab)


def write_diffusion(folder: Path, *, levels: int = 3, seed: int = 0, width: int = 8) -> Path:
    """Write a Stable Diffusion model: VAE with f = 4, UNet with `levels` levels, text model, scheduler."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    vocabulary = write_tokenizer(folder / "tokenizer")
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            # Real CLIP weights are far from the tiny initialisation; a prompt must move the features visibly.
            initializer_factor=5.0,
        )
    ).save_pretrained(folder / "text_encoder")
    channels = (width, 2 * width, 2 * width, 2 * width)[:levels]
    UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=(*["CrossAttnDownBlock2D"] * (levels - 1), "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * (levels - 1)),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.5,
    ).save_pretrained(folder / "vae")
    DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction"
    ).save_pretrained(folder / "scheduler")
    return folder


def write_dinov2(folder: Path, *, seed: int = 0, registers: int = 0) -> Path:
    """Write a DINOv2 with patches of 14 pixels, trained for 56-pixel images (16 patches)."""
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    torch.manual_seed(seed)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    sizes |= {"image_size": 56, "patch_size": 14}
    model = (
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers))
        if registers
        else Dinov2Model(Dinov2Config(**sizes))
    )
    model.save_pretrained(folder)
    return folder


def write_dino(folder: Path, *, seed: int = 0) -> Path:
    """Write a DINO (v1): a plain ViT with patches of 8 pixels."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def write_old_clip_layout(folder: Path) -> Path:
    """Give a text model's weights the names of transformers 4 (`text_model.` in front), as real ones have."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    if not any(name.startswith("text_model.") for name in tensors):
        tensors = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
        save_file(tensors, path, metadata={"format": "pt"})
    return folder


def write_profile(folder: Path) -> Path:
    """Write a profile whose models are tiny and whose results and cache lie in `folder`; returns its file."""
    write_diffusion(folder / "sd")
    write_dinov2(folder / "dino")
    path, base = folder / "tiny.toml", folder.as_posix()
    path.write_text(
        f'extends = "mini"\nname = "tiny"\nprepare = ""\n'
        f'results_dir = "{base}/results"\ncache_dir = "{base}/cache"\n'
        # Tests compare results to many digits.
        f'[model]\nsources = ["{base}/sd"]\nimage_hw = [64, 64]\ndtype = "float32"\n'
        f'[baselines.sd_dino.model]\ndtype = "float32"\n[features]\nensemble = 1\n'
        f'[vision]\nsources = ["{base}/dino"]\nresize = 56\ncrop = 56\ndense_hw = [56, 56]\n',
        encoding="utf-8",
    )
    return path


def write_sdxl(folder: Path, *, seed: int = 0) -> Path:
    """Write a Stable Diffusion XL: two text models, a UNet that is told text and sizes, VAE, scheduler."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    write_diffusion(folder, seed=seed)
    torch.manual_seed(seed + 1)
    vocabulary = write_tokenizer(folder / "tokenizer_2")
    # The real one fills up with "!", and the first with the end token.
    first = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    first.pad_token = "<|endoftext|>"
    first.save_pretrained(folder / "tokenizer")
    CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=77,
            projection_dim=20,
            hidden_act="gelu",
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            initializer_factor=5.0,
        )
    ).save_pretrained(folder / "text_encoder_2")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 2),
        cross_attention_dim=16 + 24,
        attention_head_dim=(1, 2, 2),
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8,
    ).save_pretrained(folder / "unet")
    return folder


def write_pixart(folder: Path, *, blocks: int = 3, sizes: bool = False, seed: int = 0) -> Path:
    """Write a PixArt: T5, a diffusion transformer (told the picture's size where `sizes`), VAE, scheduler."""
    import shutil

    from diffusers import PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    write_diffusion(folder, seed=seed)
    for part in ("unet", "tokenizer", "text_encoder"):
        shutil.rmtree(folder / part)
    torch.manual_seed(seed + 1)
    pieces = ["<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in WORDS), "\u2581"]
    pieces += [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [(piece, -float(place)) for place, piece in enumerate(pieces)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    tokenizer.save_pretrained(folder / "tokenizer")
    T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=12, d_kv=6, d_ff=24, num_layers=2, num_heads=2)
    ).save_pretrained(folder / "text_encoder")
    PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=blocks,
        cross_attention_dim=24,
        sample_size=8,
        caption_channels=12,
        use_additional_conditions=sizes,
    ).save_pretrained(folder / "transformer")
    return folder


def write_dinov3(folder: Path, *, seed: int = 0) -> Path:
    """Write a DINOv3 with patches of 16 pixels and four register tokens."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(seed)
    config = DINOv3ViTConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=48,
        patch_size=16,
        num_register_tokens=4,
    )
    DINOv3ViTModel(config).save_pretrained(folder)
    return folder


def write_sd15(folder: Path, *, seed: int = 0) -> Path:
    """Write a Stable Diffusion 1-5 as it was published: old configurations and names, CLIP ViT-L's width."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(seed)
    vocabulary = write_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes = {"vocab_size": vocabulary, "hidden_size": 768, "intermediate_size": 16, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 12, "initializer_factor": 5.0}
    # Its configuration says ids of another vocabulary.
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    text = CLIPTextModel(CLIPTextConfig(**sizes, **ids, hidden_act="quick_gelu"))
    text.save_pretrained(folder / "text_encoder")
    path = write_old_clip_layout(folder / "text_encoder") / "model.safetensors"
    places = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(load_file(path) | places, path, metadata={"format": "pt"})
    unet = {
        "act_fn": "silu",
        "attention_head_dim": 8,  # the number of heads, not their size
        "block_out_channels": [16, 32, 32, 32],
        "center_input_sample": False,
        "cross_attention_dim": 768,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": 8,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    }
    vae = {
        "act_fn": "silu",
        "block_out_channels": [8, 8, 8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "out_channels": 3,
        "sample_size": 512,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }
    for part, kind, config in (("unet", UNet2DConditionModel, unet), ("vae", AutoencoderKL, vae)):
        kind(**config).save_pretrained(folder / part)
        # It says nothing of what came later, such as linear projections and the scale of latents.
        old = {"_class_name": kind.__name__, "_diffusers_version": "0.6.0", **config}
        (folder / part / "config.json").write_text(json.dumps(old))
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    for new, before in names.items():
        tensors = {name.replace(f".{new}.", f".{before}."): tensor for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **noise}
    scheduler |= {"num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True}
    scheduler |= {"steps_offset": 1, "trained_betas": None, "clip_sample": False}
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


def write_sd_turbo(folder: Path, *, seed: int = 0) -> Path:
    """Write an SD-Turbo: the layout of Stable Diffusion 2-1, and a scheduler of one step."""
    from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

    write_diffusion(folder, levels=4, seed=seed)
    torch.manual_seed(seed + 1)
    UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(8, 16, 32, 32),
        attention_head_dim=(1, 2, 4, 4),  # a number of heads for each level
        cross_attention_dim=16,
        layers_per_block=2,
        norm_num_groups=4,
        use_linear_projection=True,
    ).save_pretrained(folder / "unet")
    EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="epsilon",
        timestep_spacing="trailing",
    ).save_pretrained(folder / "scheduler")
    return folder
