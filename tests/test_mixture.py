"""Weights of several layers that are learned together with a prompt."""

import dataclasses

import layouts
import pytest
import tiny
import torch
from stopping import interrupted

from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.methods import method_settings
from sd4match_lib.matcher.files import matcher_note
from sd4match_lib.matcher.matcher import Matcher
from sd4match_lib.matching.correlation import l2_normalise
from sd4match_lib.prompts.factory import load_prompt, new_prompt
from sd4match_lib.prompts.mixture import LayerMixture
from sd4match_lib.training.train import train

LAYERS = ("up_blocks.1", "up_blocks.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    for split in ("train", "val"):
        pairs = [("a", "b", "cat"), ("b", "c", "cat"), ("c", "a", "cat")]
        layouts.write_spair(folder / "SPair-71k", pairs, split)
    path = tiny.write_profile(folder)
    path.write_text(f"{path.read_text()}[training]\nsteps = 4\nbatch_size = 2\nvalidate_every = 2\n")
    return folder


@pytest.fixture(scope="module")
def profile(folder):
    return load_profile(folder / "tiny.toml")


def mixed(profile):
    return dataclasses.replace(profile, training=dataclasses.replace(profile.training, mixture=LAYERS))


def test_a_cosine_of_mixed_maps_is_the_weighted_mean_of_the_layers_cosines():
    generator = torch.Generator().manual_seed(0)
    src = [torch.randn(2, channels, 4, 6, generator=generator) for channels in (3, 5)]
    trg = [torch.randn(2, channels, 4, 6, generator=generator) for channels in (3, 5)]
    mixture = LayerMixture(LAYERS)
    mixture.logits.data = torch.tensor([0.25, 0.75]).log()
    cosines = [
        (l2_normalise(a, dim=1) * l2_normalise(b, dim=1)).sum(1) for a, b in zip(src, trg, strict=True)
    ]
    found = (mixture(src) * mixture(trg)).sum(1)
    torch.testing.assert_close(found, 0.25 * cosines[0] + 0.75 * cosines[1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(mixture(src).norm(dim=1), torch.ones(2, 4, 6))
    # A coarser layer comes to the first one's grid, where something even stays what it is.
    coarse = [src[0], torch.ones(2, 5, 2, 3)]
    even = mixture(coarse)[:, 3:]
    torch.testing.assert_close(even, torch.full_like(even, (0.75 / 5) ** 0.5))
    with pytest.raises(UserError, match="two or more different layers, not of \\['a', 'a'\\]"):
        LayerMixture(("a", "a"))


def pair_maps(profile, weights, pairs):
    """The maps that a training's first step reads, with the mixture's logits as given."""
    settings = method_settings(profile, "sd", timestep=261, ensemble=1, matcher="nn")
    prompt = new_prompt("single", profile, ("cat",), {"length": 5})
    models = MethodModels(profile, settings, prompt)
    source = models.load(torch.device("cpu"), 0)
    prompt.initialise(source.model.text, 0)
    if weights is not None:
        prompt.mixture.logits.data = torch.tensor(weights)
    return source.pair_features(pairs, seed=0)


def test_a_mixture_that_is_its_first_layer_alone_equals_that_layer(folder, profile):
    from sd4match_lib.evaluation.evaluate import open_pairs

    pairs = open_pairs(profile, "spair", "train", folder / "SPair-71k", None)[:2]
    with torch.no_grad():
        plain = pair_maps(profile, None, pairs)
        alone = pair_maps(mixed(profile), [400.0, 0.0], pairs)
        both = pair_maps(mixed(profile), [0.0, 0.0], pairs)
    for one, other, mix in zip(plain, alone, both, strict=True):
        channels = one.shape[1]
        torch.testing.assert_close(other[:, :channels], l2_normalise(one, dim=1), atol=1e-5, rtol=1e-5)
        assert other[:, channels:].abs().max() == 0 < mix[:, channels:].abs().max()


def test_a_mixture_is_learned_resumed_recorded_and_read_back(folder, profile, tmp_path):
    options = {"dataset": "spair", "data_root": folder / "SPair-71k", "device": "cpu"}
    request = options | {"options": {"length": 5}}
    whole = train(mixed(profile), "single", **request, results_dir=tmp_path / "whole")
    start = LayerMixture(LAYERS)
    assert not torch.equal(whole.prompt.mixture.logits, start.logits)
    told = whole.record.config
    assert told["layers"] == list(LAYERS) and told["prompt"]["mixture"] == list(LAYERS)
    with interrupted(at_loss=4):  # after the state of step 2 was saved
        train(mixed(profile), "single", **request, results_dir=tmp_path / "parts")
    resumed = train(mixed(profile), "single", **request, results_dir=tmp_path / "parts")
    assert torch.equal(resumed.prompt.mixture.logits, whole.prompt.mixture.logits)
    assert torch.equal(resumed.prompt.theta, whole.prompt.theta)
    # The file says which layers; a profile that knows nothing of mixtures reads them.
    again = load_prompt(whole.folder / "prompt.safetensors")
    assert again.layers == LAYERS and again.identity() == whole.prompt.identity()
    asked = options | {"split": "val", "prompt": again, "results_dir": tmp_path / "found"}
    found = evaluate(profile, **asked)
    assert found.record.config["layers"] == list(LAYERS)
    for wrong in ({"extractor": "dift"}, {"layer": "up_blocks.0"}):
        with pytest.raises(UserError, match=r"mixes up_blocks\.1, up_blocks\.0: it is read by"):
            evaluate(profile, **asked, **wrong)


def test_a_layer_that_the_model_does_not_have_is_refused_by_the_setting_that_names_it(profile):
    wrong, layers = "up_blocks.9", (LAYERS[0], "up_blocks.9")

    def under(part, **settings):
        return dataclasses.replace(profile, **{part: dataclasses.replace(getattr(profile, part), **settings)})

    def refused(setting, at, prompt=None, extractor="sd", **asked):
        settings = method_settings(at, extractor, **asked)
        with pytest.raises(UserError, match=f"^{setting}: there is no layer '{wrong}': this UNet has up_bl"):
            MethodModels(at, settings, prompt)

    mixing = under("training", mixture=layers)
    prompt = new_prompt("single", mixing, ("cat",), {"length": 5})
    refused("training.mixture", mixing, prompt)
    refused("the prompt's mixture", profile, prompt)
    refused("layer", profile, layer=wrong)
    refused("features.layer", under("features", layer=wrong))
    of_dift = dataclasses.replace(profile.baselines.dift, layer=wrong)
    refused("baselines.dift.layer", under("baselines", dift=of_dift), extractor="dift")
    of_fused = dataclasses.replace(profile.baselines.sd_dino, layers=(*layers, LAYERS[1]))
    refused("baselines.sd_dino.layers", under("baselines", sd_dino=of_fused), extractor="sd_dino_star")


def test_a_picture_names_the_layers_that_its_prompt_mixes(profile):
    prompt = new_prompt("single", mixed(profile), ("cat",), {"length": 5})
    notes = [matcher_note(Matcher.from_profile(profile, prompt=one)) for one in (prompt, "empty")]
    assert "up_blocks.1, up_blocks.0, ensemble" in notes[0] and "up_blocks.0" not in notes[1]


def test_without_a_mixture_a_prompt_says_nothing_of_one(profile):
    prompt = new_prompt("single", profile, ("cat",), {"length": 5})
    assert prompt.layers == () and "mixture" not in prompt.identity()
