"""Other families of models behind the same seam, each against the stock model with a plain hook."""

import shutil

import layouts
import pytest
import tiny
import torch
from stopping import interrupted

from sd4match_lib.analysis.prompts import nearest_words
from sd4match_lib.backbones.cleandift import CleanDift
from sd4match_lib.backbones.latents import Latents, image_noise
from sd4match_lib.backbones.pixart import LENGTH, PixArt
from sd4match_lib.backbones.sdxl import StableDiffusionXL
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.weights import find_diffusion
from sd4match_lib.config.names import BACKBONES
from sd4match_lib.config.profile import load_profile
from sd4match_lib.config.schema import ModelConfig
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.prompts.single import SinglePrompt
from sd4match_lib.training.train import train

IDS = ["cat/one", "cat/two"]
PROMPTS = ["a photo of a cat", "the red car"]
FIRM = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def latents():
    return Latents(*torch.randn(2, 2, 4, 12, 16, generator=torch.Generator().manual_seed(0)).abs())


@pytest.fixture(scope="module")
def sdxl_folder(tmp_path_factory):
    return tiny.write_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def sdxl(sdxl_folder):
    return StableDiffusionXL.from_folder(sdxl_folder, layers=("up_blocks.1",))


def noisy_latents(model, latents, timestep):
    clean = model.sample(latents, IDS, seed=0)
    noise = torch.stack([image_noise(0, name, 0, clean.shape[1:]) for name in IDS])
    return model.scheduler.add_noise(clean, noise, torch.full((2,), timestep))


# Stable Diffusion XL


@torch.no_grad()
def stock_sdxl(folder, strings):
    """What diffusers' own pipeline makes of strings: (B, 77, D) and the pooled (B, Dp)."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    kinds = {
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
        "tokenizer": CLIPTokenizer,
        "tokenizer_2": CLIPTokenizer,
        "unet": UNet2DConditionModel,
        "scheduler": DDIMScheduler,
    }
    parts = {name: kind.from_pretrained(folder, subfolder=name) for name, kind in kinds.items()}
    pipeline = StableDiffusionXLPipeline(**parts)
    embeds, _, pooled, _ = pipeline.encode_prompt(strings, do_classifier_free_guidance=False)
    return pipeline, embeds, pooled


def test_sdxls_context_is_diffusers_own_and_holds_the_pooled_description(sdxl, sdxl_folder):
    _, embeds, pooled = stock_sdxl(sdxl_folder, PROMPTS)
    context = sdxl.text.encode_prompt(PROMPTS)
    torch.testing.assert_close(context[:, :77], embeds, **FIRM)
    torch.testing.assert_close(context[:, 77, :20], pooled, **FIRM)
    assert sdxl.token_width(sdxl_folder) == sdxl.text.width == 16 + 24


def test_sdxls_features_equal_a_hook_on_the_whole_stock_unet(sdxl, sdxl_folder, latents):
    pipeline, embeds, _ = stock_sdxl(sdxl_folder, PROMPTS)
    size = (12 * 4, 16 * 4)  # the latents' times the VAE's factor, height first
    # The pipeline's own way of packing original size, crop and target size.
    time_ids = pipeline._get_add_time_ids(size, (0, 0), size, embeds.dtype, text_encoder_projection_dim=20)
    seen = []
    pipeline.unet.up_blocks[1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        context = sdxl.text.encode_prompt(PROMPTS)
        pipeline.unet(
            noisy_latents(sdxl, latents, 261),
            261,
            encoder_hidden_states=context[:, :77],
            added_cond_kwargs={"text_embeds": context[:, 77, :20], "time_ids": time_ids.expand(2, -1)},
        )
        (ours,) = sdxl.features(latents, IDS, context, ("up_blocks.1",), timestep=261)
    torch.testing.assert_close(ours, seen[0], **FIRM)
    assert tuple(ours.shape[2:]) == sdxl.grid_hw(sdxl_folder, image_hw=size, layer="up_blocks.1")


def test_learned_rows_reach_both_of_sdxls_text_models_and_its_pooled_description(sdxl, sdxl_folder):
    from transformers import CLIPTextModelWithProjection

    words = sdxl.text.embed_prompt(["a photo of a cat"])[:, 1:6].clone().requires_grad_(True)
    context = sdxl.text.encode_tokens(sdxl.text.assemble(words))
    # The same as ids: start, five words, end, and token 0 to the end.
    ids = sdxl.text.second.token_ids(["a photo of a cat"])
    ids[:, 7:] = 0
    stock = CLIPTextModelWithProjection.from_pretrained(sdxl_folder, subfolder="text_encoder_2")(ids)
    torch.testing.assert_close(context[:, 77, :20], stock.text_embeds, **FIRM)
    (gradient,) = torch.autograd.grad(context[:, 77].sum(), words, retain_graph=True)
    assert gradient[..., :16].abs().sum() == 0 and gradient[..., 16:].abs().sum() > 0
    (gradient,) = torch.autograd.grad((context[:, :77] ** 2).sum(), words)
    assert (gradient.abs().sum((0, 1)) > 0).all()


def test_what_does_not_fit_sdxl_is_said(sdxl, latents):
    with pytest.raises(UserError, match="16 wide and this model's two text encoders together 40"):
        sdxl.text.assemble(torch.zeros(1, 5, 16))
    with pytest.raises(UserError, match="77 rows and a pooled description, not 77 rows: learn"):
        sdxl.features(latents, IDS, torch.zeros(1, 77, 40), ("up_blocks.1",), timestep=50)


# CleanDIFT


def test_cleandift_is_the_unet_on_clean_latents(tmp_path, latents):
    from diffusers import UNet2DConditionModel

    folder = tiny.write_diffusion(tmp_path / "sd")
    tuned = tiny.write_diffusion(tmp_path / "tuned", seed=9)
    shutil.copy(tuned / CleanDift.weights_file, folder / CleanDift.weights_file)
    model = CleanDift.from_folder(folder, layers=("up_blocks.1",))
    unet = UNet2DConditionModel.from_pretrained(tuned, subfolder="unet")
    seen = []
    unet.up_blocks[1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        context = model.text.encode_prompt(PROMPTS)
        unet(latents.mean * 0.5, 261, encoder_hidden_states=context)
        (ours,) = model.features(latents, IDS, context, ("up_blocks.1",), timestep=261, seed=1)
        (again,) = model.features(latents, IDS[::-1], context, ("up_blocks.1",), timestep=261, seed=2)
    torch.testing.assert_close(ours, seen[0], **FIRM)
    assert torch.equal(ours, again)  # nothing hangs on the seed or on which picture it is
    with pytest.raises(UserError, match="ensemble is 8, but CleanDIFT adds no noise to average; use 1"):
        model.features(latents, IDS, context, ("up_blocks.1",), timestep=261, ensemble=8)


# Stable Diffusion 1-5 and SD-Turbo: folders of the one family


def published(kind, folder, part):
    """A part as the library itself makes it of the published files."""
    return kind.from_pretrained(folder, subfolder=part).eval()


@pytest.mark.parametrize("layer", ["up_blocks.0", "up_blocks.1", "up_blocks.2"])
@pytest.mark.parametrize(
    ("write", "timestep"), [(tiny.write_sd15, 100), (tiny.write_sd_turbo, 999)], ids=["sd15", "turbo"]
)
def test_versions_of_stable_diffusion_equal_a_hook_on_their_stock_parts(tmp_path, write, timestep, layer):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = write(tmp_path)
    model = StableDiffusion.from_folder(folder, layers=(layer,))
    unet, vae = published(UNet2DConditionModel, folder, "unet"), published(AutoencoderKL, folder, "vae")
    words = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")(
        PROMPTS, padding="max_length", max_length=77, return_tensors="pt"
    )
    seen = []
    unet.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.append(output))
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    # The noise of the betas that all of them were trained with, at SD-Turbo's one step too.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = (1 - betas).cumprod(0)[timestep]
    with torch.no_grad():
        latents, posterior = model.encode(images), vae.encode(images).latent_dist
        torch.testing.assert_close(latents.mean, posterior.mean, **FIRM)
        draws = [
            torch.stack([image_noise(0, name, which, posterior.mean.shape[1:]) for name in IDS])
            for which in ("vae", 0)
        ]
        clean = (posterior.mean + posterior.std * draws[0]) * vae.config.scaling_factor
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * draws[1]
        context = published(CLIPTextModel, folder, "text_encoder")(words.input_ids).last_hidden_state
        unet(noisy, timestep, encoder_hidden_states=context)
        (ours,) = model.features(latents, IDS, model.text.encode_prompt(PROMPTS), (layer,), timestep=timestep)
    torch.testing.assert_close(ours, seen[0], **FIRM)
    assert tuple(ours.shape[2:]) == model.grid_hw(folder, image_hw=(96, 128), layer=layer)


# PixArt: a transformer


@pytest.fixture(scope="module", params=[False, True], ids=["alpha", "told sizes"])
def pixart_folder(request, tmp_path_factory):
    return tiny.write_pixart(tmp_path_factory.mktemp("pixart"), sizes=request.param)


def test_pixarts_context_is_t5s_and_padding_is_not_seen(pixart_folder):
    from transformers import T5EncoderModel

    text = PixArt.load_text(pixart_folder)
    context = text.encode_prompt(PROMPTS)
    tokens = text.tokenizer(PROMPTS, padding="max_length", max_length=LENGTH, return_tensors="pt")
    stock = T5EncoderModel.from_pretrained(pixart_folder, subfolder="text_encoder")
    with torch.no_grad():
        hidden = stock(**tokens).last_hidden_state
    assert torch.equal(context[..., -1], tokens["attention_mask"].float())
    torch.testing.assert_close(context[..., :-1], hidden, **FIRM)
    # Learned rows come first, then the end; how much padding follows does not matter to them.
    learned = text.embed_prompt(["a photo of a cat"])[:, :5].clone().requires_grad_(True)
    assembled = text.encode_tokens(text.assemble(learned))
    torch.testing.assert_close(assembled[:, :6], text.encode_prompt(["a photo of a cat"])[:, :6], **FIRM)
    (gradient,) = torch.autograd.grad((assembled[..., :-1] ** 2).sum(), learned)
    assert (gradient.abs().sum(2) > 0).all()
    assert PixArt.token_width(pixart_folder) == text.width == 12


@pytest.mark.parametrize("layer", ["transformer_blocks.1", "transformer_blocks.2.modulated"])
def test_pixarts_features_equal_a_hook_on_the_whole_stock_transformer(pixart_folder, latents, layer):
    from diffusers import PixArtTransformer2DModel

    model = PixArt.from_folder(pixart_folder, layers=(layer,))
    stock = PixArtTransformer2DModel.from_pretrained(pixart_folder, subfolder="transformer").eval()
    seen = []
    if layer.endswith("modulated"):
        block = stock.transformer_blocks[2]
        block.attn1.register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
    else:
        stock.transformer_blocks[1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    sizes = {"resolution": torch.tensor([[48.0, 64.0]] * 2), "aspect_ratio": torch.tensor([[0.75]] * 2)}
    told = sizes if stock.use_additional_conditions else {"resolution": None, "aspect_ratio": None}
    with torch.no_grad():
        context = model.text.encode_prompt(PROMPTS)
        stock(
            noisy_latents(model, latents, 141),
            encoder_hidden_states=context[..., :-1],
            encoder_attention_mask=context[..., -1],
            timestep=torch.tensor([141, 141]),
            added_cond_kwargs=told,
        )
        (ours,) = model.features(latents, IDS, context, (layer,), timestep=141)
    # 12 x 16 latents in patches of two: tokens in reading order are rows of the grid.
    assert tuple(ours.shape) == (2, 24, 6, 8)
    torch.testing.assert_close(ours.flatten(2).transpose(1, 2), seen[0], **FIRM)
    assert PixArt.grid_hw(pixart_folder, image_hw=(48, 64), layer=layer) == (6, 8)


def test_nothing_of_pixart_behind_the_wanted_layer_is_kept(pixart_folder, latents):
    model = PixArt.from_folder(pixart_folder, layers=("transformer_blocks.1.modulated",))
    assert len(model.denoiser.transformer_blocks) == 2
    ran = []
    for name in ("transformer_blocks.1.attn1", "proj_out"):
        model.denoiser.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        context = model.text.encode_prompt([""])
        model.features(latents, IDS, context, ("transformer_blocks.1.modulated",), timestep=50)
    assert ran == []  # what attention is fed is known before it runs
    for layer in ("up_blocks.1", "transformer_blocks.2", "transformer_blocks.x"):
        with pytest.raises(UserError, match=f"there is no layer '{layer}': this transformer has"):
            model.features(latents, IDS, context, (layer,), timestep=50)


# Words


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        (StableDiffusion, tiny.write_diffusion),
        (StableDiffusionXL, tiny.write_sdxl),
        (PixArt, tiny.write_pixart),
    ],
)
def test_a_prompt_that_starts_from_words_is_told_as_these_words(tmp_path, kind, write):
    text = kind.load_text(write(tmp_path))
    prompt = SinglePrompt(text.width, length=5, init="a photo of the cat")
    prompt.initialise(text, 0)
    found = nearest_words(prompt.theta, text)
    assert found["word"].tolist() == ["a", "photo", "of", "the", "cat"] and (found["cosine"] > 0.999).all()
    # Scaled rows are the same directions; between two words the nearer one is said.
    bare = torch.nn.functional.normalize(prompt.theta.detach() - text.positions(5), dim=1)
    moved = 3 * bare
    moved[4] += bare[3]
    moved += text.positions(5)
    again = nearest_words(moved, text)
    assert again["word"].tolist() == found["word"].tolist() and again["cosine"][4] < 0.99


# Finding and learning


@pytest.mark.parametrize(
    ("backbone", "write", "part"),
    [
        ("sdxl", tiny.write_sdxl, "tokenizer_2/tokenizer.json"),
        ("pixart", tiny.write_pixart, "text_encoder/model.safetensors"),
    ],
)
def test_every_part_of_a_model_is_part_of_its_identity(tmp_path, backbone, write, part):
    config = ModelConfig(sources=(str(write(tmp_path)),), image_hw=(64, 64), backbone=backbone)
    found = find_diffusion(config)
    assert {part, BACKBONES.load(backbone).weights_file} <= found.files.keys()
    content = (tmp_path / part).read_bytes()
    # A byte more would make weights unreadable, which is found before they are hashed.
    (tmp_path / part).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert find_diffusion(config).sha256 != found.sha256
    (tmp_path / part).unlink()
    if part.startswith("text"):
        with pytest.raises(UserError, match="pixart model was not found"):
            find_diffusion(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "write", "layer"),
    [
        ("stable_diffusion", tiny.write_sd15, "up_blocks.2"),
        ("stable_diffusion", tiny.write_sd_turbo, "up_blocks.1"),
        ("sdxl", tiny.write_sdxl, "up_blocks.1"),
        ("cleandift", tiny.write_diffusion, "up_blocks.1"),
        ("pixart", tiny.write_pixart, "transformer_blocks.1.modulated"),
    ],
)
def test_a_prompt_is_learned_resumed_and_evaluated(tmp_path, backbone, write, layer):
    root = tmp_path / "SPair-71k"
    for split in ("train", "val"):
        layouts.write_spair(root, [("a", "b", "cat"), ("b", "c", "cat"), ("c", "a", "cat")], split)
    path = tiny.write_profile(tmp_path)
    write(tmp_path / "other")
    path.write_text(
        path.read_text()
        .replace("[model]\n", f'[model]\nbackbone = "{backbone}"\n')
        .replace(f'"{tmp_path.as_posix()}/sd"]\nimage', f'"{tmp_path.as_posix()}/other"]\nimage')
        .replace("[features]\n", f'[features]\nlayer = "{layer}"\n')
        + "[training]\nsteps = 4\nbatch_size = 2\nvalidate_every = 2\n"
    )
    profile = load_profile(path)
    options = {"dataset": "spair", "data_root": root, "device": "cpu", "options": {"length": 5}}
    whole = train(profile, "single", **options, results_dir=tmp_path / "whole")
    assert whole.record.config["model"]["backbone"] == backbone
    assert whole.record.inputs["model"] == find_diffusion(profile.model).sha256
    assert whole.record.config["layers"] == [layer]
    text = BACKBONES.load(backbone).load_text(tmp_path / "other")
    start = SinglePrompt(text.width, length=5)
    start.initialise(text, profile.seed)
    assert not torch.equal(whole.prompt.theta, start.theta)

    with interrupted(at_loss=4):  # after the state of step 2 was saved
        train(profile, "single", **options, results_dir=tmp_path / "parts")
    resumed = train(profile, "single", **options, results_dir=tmp_path / "parts")
    assert torch.equal(resumed.prompt.theta, whole.prompt.theta)
    found = {"dataset": "spair", "data_root": root, "split": "val", "results_dir": tmp_path / "found"}
    result = evaluate(profile, **found, prompt=whole.prompt, device="cpu")
    assert result.keypoints["pred_x_px"].notna().sum() == 9
