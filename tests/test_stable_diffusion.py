import pytest
import tiny
import torch

from sd4match_lib.backbones.latents import Latents, image_noise
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.weights import file_hash, find_diffusion
from sd4match_lib.config.schema import ModelConfig
from sd4match_lib.errors import UserError
from sd4match_lib.utils.files import sha256_file

UNET_WEIGHTS = StableDiffusion.weights_file
LAYERS = ("up_blocks.1",)
IDS = ["cat/one", "cat/two", "dog/one", "dog/one#flip", "car/x"]


@pytest.fixture(scope="module")
def four_levels(tmp_path_factory):
    return tiny.write_diffusion(tmp_path_factory.mktemp("sd4"), levels=4)


@pytest.fixture(scope="module")
def features(sd):
    return StableDiffusion.from_folder(sd, layers=LAYERS)


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def latents(features, images):
    return features.encode(images)


def context_of(features, *strings):
    return features.text.encode_prompt(strings)


@torch.no_grad()
def whole_unet(sd, latents, context, block, timestep):
    """What a plain hook on the complete, stock UNet sees: no cut, no early end."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(sd, subfolder="unet").eval()
    full = StableDiffusion.from_folder(sd, layers=("up_blocks.0",))
    clean = full.sample(latents, IDS, seed=0)
    noise = torch.stack([image_noise(0, name, 0, clean.shape[1:]) for name in IDS])
    noisy = full.scheduler.add_noise(clean, noise, torch.full((len(IDS),), timestep))
    seen = []
    unet.up_blocks[block].register_forward_hook(lambda _m, _i, output: seen.append(output))
    unet(noisy, timestep, encoder_hidden_states=context.expand(len(IDS), -1, -1))
    return seen[0]


@pytest.mark.parametrize("side", [16, 18, 13])
@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_every_block_of_the_cut_decoder_equals_a_hook_on_the_whole_unet(four_levels, block, side):
    # 18 and 13 do not halve evenly, where the UNet asks which block is its last.
    cut = StableDiffusion.from_folder(four_levels, layers=(f"up_blocks.{block}",))
    latents = Latents(torch.randn(5, 4, side, side), torch.zeros(5, 4, side, side))
    context = context_of(cut, "a photo of a cat")
    with torch.no_grad():
        ours = cut.features(latents, IDS, context, (f"up_blocks.{block}",), timestep=50)[0]
        (noisy,) = cut.noised(latents, IDS, timestep=50)
        ended = cut.denoiser(noisy, 50, encoder_hidden_states=context.expand(len(IDS), -1, -1)).sample
    stock = whole_unet(four_levels, latents, context, block, 50)
    assert ours.shape == stock.shape
    torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-5)
    # The cut UNet's own pass ends there, without a hook.
    assert torch.equal(ended, ours)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_three_levels_equal_the_whole_unet_too_and_a_pyramid_equals_its_blocks(sd, latents, block):
    cut = StableDiffusion.from_folder(sd, layers=("up_blocks.2",))
    context = context_of(cut, "a photo of a dog")
    with torch.no_grad():
        pyramid = cut.features(latents, IDS, context, [f"up_blocks.{k}" for k in range(3)], timestep=261)
    stock = whole_unet(sd, latents, context, block, 261)
    torch.testing.assert_close(pyramid[block], stock, atol=1e-5, rtol=1e-5)


def test_nothing_behind_the_wanted_block_runs(sd, latents):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(sd, subfolder="unet")
    vae = AutoencoderKL.from_pretrained(sd, subfolder="vae")
    loaded = StableDiffusion.from_folder(sd, layers=LAYERS)
    whole = StableDiffusion(unet, vae, loaded.text, loaded.scheduler)
    ran = []
    for name in ("up_blocks.0", "up_blocks.1", "up_blocks.2", "conv_norm_out", "conv_out"):
        unet.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        of_whole = whole.features(latents, IDS, context_of(loaded, ""), LAYERS, timestep=50)[0]
        assert torch.equal(
            of_whole, loaded.features(latents, IDS, context_of(loaded, ""), LAYERS, timestep=50)[0]
        )
    assert ran == ["up_blocks.0", "up_blocks.1"]
    size = sum(parameter.numel() for parameter in loaded.denoiser.parameters())
    assert size < sum(parameter.numel() for parameter in unet.parameters())


def test_features_do_not_depend_on_batch_size_or_order(features, images, latents):
    context = context_of(features, "a photo of a cat")
    order = [3, 0, 4, 2, 1]

    def run(chosen):
        part = Latents(latents.mean[chosen], latents.std[chosen])
        names = [IDS[index] for index in chosen]
        return features.features(part, names, context, LAYERS, timestep=50, ensemble=3, seed=7)[0]

    with torch.no_grad():
        together = run([0, 1, 2, 3, 4])
        alone = torch.cat([run([index]) for index in range(5)])
        shuffled = run(order)
    # Equal up to the order of sums inside a convolution, which may change with the batch.
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shuffled, together[order], atol=1e-5, rtol=1e-5)
    assert torch.equal(features.encode(images[2:3]).mean, latents.mean[2:3])


def test_the_noise_belongs_to_seed_image_and_member():
    draw = image_noise(0, "cat/one", 0, (4, 8, 8))
    assert torch.equal(draw, image_noise(0, "cat/one", 0, (4, 8, 8)))
    others = [(1, "cat/one", 0), (0, "cat/one#flip", 0), (0, "cat/one", 1), (0, "cat/one", "vae")]
    assert all(not torch.equal(draw, image_noise(*other, (4, 8, 8))) for other in others)
    torch.manual_seed(123)
    assert torch.equal(draw, image_noise(0, "cat/one", 0, (4, 8, 8)))
    # Pins the stream: a change here would silently change every result ever recorded.
    torch.testing.assert_close(draw.flatten()[:3], torch.tensor(FIRST_DRAWS), atol=1e-4, rtol=0)


FIRST_DRAWS = [-0.6675, -0.2124, 0.5219]


def test_an_ensemble_is_the_mean_of_its_members_(features, latents, monkeypatch):
    context = context_of(features, "")
    with torch.no_grad():
        ensemble = features.features(latents, IDS, context, LAYERS, timestep=261, ensemble=2)[0]
        first = features.features(latents, IDS, context, LAYERS, timestep=261)[0]
        from sd4match_lib.backbones import base

        def shifted(seed, name, member, shape):
            return image_noise(seed, name, member if member == "vae" else member + 1, shape)

        monkeypatch.setattr(base, "image_noise", shifted)
        second = features.features(latents, IDS, context, LAYERS, timestep=261)[0]
    torch.testing.assert_close(ensemble, (first + second) / 2, atol=1e-5, rtol=1e-5)
    assert (first - second).abs().max() > 1e-3


def test_latents_are_the_vaes_mean_and_deviation_and_samples_are_scaled(features, images, latents):
    with torch.no_grad():
        posterior = features.vae.encode(images).latent_dist
    torch.testing.assert_close(latents.mean, posterior.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(latents.std, posterior.std, atol=1e-5, rtol=1e-5)
    noise = image_noise(0, IDS[0], "vae", latents.mean.shape[1:])
    expected = (latents.mean[0] + latents.std[0] * noise) * 0.5  # the tiny VAE's scaling factor
    torch.testing.assert_close(features.sample(latents, IDS, seed=0)[0], expected)


def test_gradients_flow_into_the_context_only(features, latents):
    context = context_of(features, "a photo of a cat").clone().requires_grad_()
    features.features(latents, IDS, context, LAYERS, timestep=50)[0].square().mean().backward()
    assert context.grad is not None and context.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in features.denoiser.parameters())


def test_the_prompt_moves_the_features(features, latents):
    with torch.no_grad():
        cat = features.features(latents, IDS, context_of(features, "a photo of a cat"), LAYERS, timestep=50)[
            0
        ]
        per_image = features.features(
            latents, IDS, context_of(features, *["a dog"] * 5), LAYERS, timestep=50
        )[0]
    assert (cat - per_image).abs().max() > 1e-3


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_cheap_way_back_gives_the_same_gradient_and_is_taken_back(features, latents, checkpoint):
    def processors():
        return {type(processor) for processor in features.denoiser.attn_processors.values()}

    def gradient():
        context = context_of(features, "a photo of a cat").detach().requires_grad_(True)
        output = features.features(latents, IDS, context, LAYERS, timestep=261)[0]
        output.square().mean().backward()
        return output.detach(), context.grad

    before, found = processors(), [gradient()]
    with features.learning(checkpoint_activations=checkpoint):
        assert processors() != before and features.denoiser.is_gradient_checkpointing == checkpoint
        found.append(gradient())
    # Whoever reads the model next must not compute otherwise for having shared it with a training.
    assert processors() == before and not features.denoiser.is_gradient_checkpointing
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    assert found[0][1].abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_about_the_same_in_float32(sd, features, latents, dtype):
    half = StableDiffusion.from_folder(sd, layers=LAYERS, dtype=dtype)
    with torch.no_grad():
        exact = features.features(latents, IDS, context_of(features, "a cat"), LAYERS, timestep=50)[0]
        rough = half.features(latents, IDS, context_of(half, "a cat"), LAYERS, timestep=50)[0]
    assert half.dtype == dtype and rough.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(exact, rough, dim=1)
    assert cosine.min() > 0.98


def test_blocks_that_are_not_there_are_errors(sd, features, latents):
    with pytest.raises(UserError, match=r"no layer 'up_blocks.3': .* has up_blocks.0 to up_blocks.2"):
        StableDiffusion.from_folder(sd, layers=("up_blocks.3",))
    with pytest.raises(UserError, match="cut off"):
        features.features(latents, IDS, context_of(features, ""), ("up_blocks.2",), timestep=50)


def test_the_first_complete_source_is_used_and_its_files_are_hashed(sd, tmp_path):
    broken = tiny.write_diffusion(tmp_path / "broken")
    (broken / UNET_WEIGHTS).unlink()
    config = ModelConfig(sources=("models/nowhere", str(broken), str(sd)), image_hw=(64, 64))
    found = find_diffusion(config, tmp_path / "cache")
    assert found.source == str(sd) and found.files[UNET_WEIGHTS] == sha256_file(sd / UNET_WEIGHTS)
    assert "tokenizer/tokenizer.json" in found.files
    assert found == find_diffusion(config, tmp_path / "cache") and len(found.sha256) == 64


def test_a_tokenizer_without_its_words_is_missing(tmp_path):
    # transformers would load it without complaint and map every word to the end token.
    sd = tiny.write_diffusion(tmp_path)
    (sd / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"lacks tokenizer/vocab\.json or tokenizer/tokenizer\.json"):
        find_diffusion(ModelConfig(sources=(str(sd),), image_hw=(64, 64)))


def test_without_a_source_the_error_lists_each_with_its_reason(sd, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    config = ModelConfig(sources=("models/nowhere", str(sd), "some/hub-id"), image_hw=(64, 64), sha256="00")
    with pytest.raises(UserError) as caught:
        find_diffusion(config, download=False)
    message = str(caught.value)
    assert "there is no folder" in message and "the profile's sha256 says 00" in message
    assert "some/hub-id (hub: " in message and "\n" not in message


def test_a_remembered_hash_follows_the_file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = file_hash(path, tmp_path / "cache")
    path.write_bytes(b"two!")
    second = file_hash(path, tmp_path / "cache")
    assert first != second == sha256_file(path)
    next((tmp_path / "cache" / "hashes").glob("*.json")).write_text("{damaged")
    assert file_hash(path, tmp_path / "cache") == second


def test_a_damaged_weight_file_is_one_clear_error(tmp_path):
    sd = tiny.write_diffusion(tmp_path)
    (sd / UNET_WEIGHTS).write_bytes(b"not a model")
    with pytest.raises(UserError, match="unet cannot be loaded"):
        StableDiffusion.from_folder(sd, layers=LAYERS)
