import dataclasses
import logging
import os

import pytest
import tiny
import torch

from sd4match_lib.backbones.fast import ReadPass
from sd4match_lib.backbones.latents import Latents
from sd4match_lib.backbones.sdxl import StableDiffusionXL
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.features.loaded import forget_models
from sd4match_lib.matching.points import match_points
from sd4match_lib.reproduce.prepare import prepare_data

LAYERS = ("up_blocks.0", "up_blocks.1")
IDS = [f"cat/{index}" for index in range(5)]


@pytest.fixture(scope="module")
def plain(sd):
    return StableDiffusion.from_folder(sd, layers=LAYERS)


@pytest.fixture(scope="module")
def latents():
    generator = torch.Generator().manual_seed(2)
    return Latents(torch.randn(5, 4, 16, 16, generator=generator), torch.zeros(5, 4, 16, 16))


def features(model, latents, count=5, **settings):
    context = model.text.encode_prompt(["a photo of a cat", "a dog", "a car", "red", "the"][:count])
    part = Latents(latents.mean[:count], latents.std[:count])
    with torch.no_grad():
        return model.features(part, IDS[:count], context, LAYERS, timestep=50, **settings)


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_pass_is_one_graph_and_the_same_numbers(family, sd, tmp_path, latents):
    kind = StableDiffusion
    if family == "sdxl":
        sd, kind = tiny.write_sdxl(tmp_path), StableDiffusionXL
    model = kind.from_folder(sd, layers=LAYERS)
    expected = features(model, latents)
    # One graph or an error; without compiling what is in it.
    whole = torch.compile(ReadPass(model.denoiser, LAYERS), fullgraph=True, dynamic=False, backend="eager")
    context = model.text.encode_prompt(["a photo of a cat", "a dog", "a car", "red", "the"])
    (noisy,) = model.noised(latents, IDS, timestep=50)
    with torch.no_grad():
        found = whole(noisy, torch.tensor(50), model.conditions(noisy, context))
    assert_close(found, expected)


@pytest.fixture
def uncompiled(sd, monkeypatch):
    """A fast model whose passes are not compiled, and the rows of each of them."""
    rows = []

    def watch(read, **_settings):
        def run(noisy, step, conditions):
            rows.append(len(noisy))
            return read(noisy, step, conditions)

        return run

    monkeypatch.setattr(torch, "compile", watch)
    model = StableDiffusion.from_folder(sd, layers=LAYERS)
    model.make_fast(LAYERS)
    return model, rows


@pytest.mark.parametrize(("most", "wanted"), [(64, 15), (7, 6), (2, 2)])
def test_images_and_noises_share_passes_of_one_size(uncompiled, plain, latents, monkeypatch, most, wanted):
    model, rows = uncompiled
    monkeypatch.setattr("sd4match_lib.backbones.stable_diffusion.MOST_ROWS", most)
    for count in (5, 2, 1):
        assert_close(features(model, latents, count, ensemble=3), features(plain, latents, count, ensemble=3))
    # Two noises at a time leave one over, which is the other size.
    assert set(rows) <= ({wanted, 1} if most == 2 else {wanted})


@pytest.mark.parametrize("quick", [False, True])
def test_memory_that_runs_out_halves_the_pass_once_and_for_all(
    sd, plain, latents, monkeypatch, quick, uncompiled
):
    model = uncompiled[0] if quick else StableDiffusion.from_folder(sd, layers=LAYERS)
    sizes, read = [], model.read_layers

    def small(noisy, *args):
        sizes.append(len(noisy))
        if len(noisy) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(noisy, *args)

    monkeypatch.setattr(model, "read_layers", small)
    expected = features(plain, latents, ensemble=2)
    assert_close(features(model, latents, ensemble=2), expected)
    tried = len([size for size in sizes if size > 3])
    assert_close(features(model, latents, ensemble=2), expected)
    assert tried >= 1 and tried == len([size for size in sizes if size > 3])
    monkeypatch.setattr(model, "read_layers", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(torch.OutOfMemoryError):
        features(model, latents, ensemble=2)


def test_a_compiler_with_another_gradient_is_not_learned_through(sd, plain, latents, monkeypatch, caplog):
    wrong = []

    def compiled(read, **_settings):
        def run(*given):
            wrong.append(1)
            return [output + 0.3 * (output - output.detach()) for output in read(*given)]

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    model = StableDiffusion.from_folder(sd, layers=LAYERS)
    model.make_fast(LAYERS)
    context = [of.text.encode_prompt(["red"]).detach().clone().requires_grad_() for of in (model, plain)]
    for of, given in zip((model, plain), context, strict=True):
        for _ in range(2):
            maps = of.features(latents, IDS, given, LAYERS, timestep=261)
            maps[1].square().mean().backward()
    assert "gradient is off by 30 %; prompts are learned through the plain one" in caplog.text
    torch.testing.assert_close(context[0].grad, context[1].grad, atol=1e-6, rtol=1e-3)
    assert len(wrong) == 1
    # Without gradients the same compiler's features are used.
    assert_close(features(model, latents), features(plain, latents))
    assert len(wrong) == 2


def test_a_family_without_a_fast_path_says_so(tmp_path):
    from sd4match_lib.backbones.pixart import PixArt

    model = PixArt.from_folder(tiny.write_pixart(tmp_path), layers=("transformer_blocks.0",))
    with pytest.raises(UserError, match="PixArt has no fast path; leave `fast` out"):
        model.make_fast(("transformer_blocks.0",))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("matcher", ["nn", "kernel_softargmax"])
def test_maps_rounded_to_half_precision_move_pck_by_a_tenth_of_a_point_at_most(kind, matcher):
    generator = torch.Generator().manual_seed(3)
    cells = torch.randn(10, 64, 24, 24, generator=generator)
    # The target is the source moved by three cells, under as much noise as makes some matches wrong.
    src, trg = cells, cells.roll(3, dims=3) + 2.5 * torch.randn(cells.shape, generator=generator)
    points = torch.rand(10, 200, 2, generator=generator) * torch.tensor([20.0, 23.0])

    def share_found(dtype):
        maps = src.to(dtype).float(), trg.to(dtype).float()
        found = match_points(*maps, points, matcher=matcher)
        return ((found - points - torch.tensor([3.0, 0.0])).norm(dim=2) <= 2.4).double().mean().item()

    exact = share_found(torch.float32)
    assert 0.2 < exact < 0.95 and abs(share_found(kind) - exact) <= 0.001


@pytest.fixture(params=["aot_eager", "inductor"])
def backend(request, monkeypatch):
    """Graphs there and back as they are run by PyTorch, or as code, which takes a compiler many minutes."""
    if request.param == "inductor" and not os.environ.get("SD4MATCH_COMPILE"):
        pytest.skip("SD4MATCH_COMPILE=1 asks for it")
    monkeypatch.setattr(torch, "compile", _with_backend(torch.compile, request.param))
    forget_models()  # one compiled otherwise may still be here
    yield
    forget_models()


def _with_backend(compiled, name):
    def run(read, *, mode, **settings):
        return compiled(read, **settings, backend=name)

    return run


@pytest.mark.slow
def test_compiled_features_and_gradients_are_those_of_the_plain_path(sd, plain, latents, caplog, backend):
    model = StableDiffusion.from_folder(sd, layers=LAYERS)
    model.make_fast(LAYERS)
    with caplog.at_level(logging.INFO):
        assert_close(features(model, latents, ensemble=2), features(plain, latents, ensemble=2))
    assert "compiled for 10 rows" in caplog.text and model.warm_up_s > 0

    def gradient(of):
        context = of.text.encode_prompt(["a photo of a cat"]).detach().clone().requires_grad_()
        with of.learning(checkpoint_activations=False):
            maps = of.features(latents, IDS, context, LAYERS, timestep=261)
        sum(part.square().mean() for part in maps).backward()
        return context.grad

    # Whether compiled, or, where the compiler's gradient is another, through the plain pass.
    torch.testing.assert_close(gradient(model), gradient(plain), atol=1e-6, rtol=1e-3)


@pytest.mark.slow
def test_a_fast_evaluation_is_another_run_with_the_same_pck(tmp_path, backend):
    smoke = load_profile("smoke")
    prepare_data(smoke)
    asked = dataclasses.replace(load_profile(tiny.write_profile(tmp_path)), datasets=smoke.datasets)
    fast_one = dataclasses.replace(asked, model=dataclasses.replace(asked.model, fast=True))
    results = [evaluate(profile, dataset="spair", max_pairs=8, device="cpu") for profile in (asked, fast_one)]
    assert len({result.record.run_id for result in results}) == 2
    slow, quick = (result.record for result in results)
    for alpha in asked.evaluation.alphas:
        assert abs(quick.metrics[f"pck@{alpha:.2f}"] - slow.metrics[f"pck@{alpha:.2f}"]) <= 0.001
    assert quick.metrics["warm_up_s"] > 0 and "warm_up_s" not in slow.metrics
    assert quick.metrics["unet_passes"] == slow.metrics["unet_passes"]
