import dataclasses

import pytest
import torch

from sd4match_lib.backbones.vision import VisionTokens
from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import PromptBatch, Scope
from sd4match_lib.prompts.cpm import ConditionalPrompt
from sd4match_lib.prompts.factory import make_prompt, new_prompt
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.prompts.single import SinglePrompt

WIDTH, VISION, PATCHES = 16, 12, 16


def tokens(rows, seed=0, width=VISION):
    generator = torch.Generator().manual_seed(seed)
    return VisionTokens(
        torch.randn(rows, PATCHES, width, generator=generator), torch.randn(rows, width, generator=generator)
    )


def pair_batch(rows=2, seed=0):
    names = tuple(f"cat/{i}" for i in range(rows))
    return PromptBatch(
        names, ("cat",) * rows, tuple(f"{n}t" for n in names), tokens(rows, seed), tokens(rows, seed + 1)
    )


def cpm(encoder, **options):
    prompt = ConditionalPrompt(WIDTH, VISION, PATCHES, length_global=3, length_condition=5, **options)
    prompt.initialise(encoder, 0)
    return prompt


def test_learned_rows_replace_the_embeddings_between_start_and_end(encoder):
    prompt = SinglePrompt(WIDTH)
    prompt.initialise(encoder, 0)
    batch = PromptBatch(("a/1", "b/2"), ("cat", "dog"))
    assembled = prompt.tokens(batch, encoder)
    assert assembled.shape == (2, 77, WIDTH) and prompt.scope is Scope.DATASET
    ends = encoder.embed_ids(
        torch.tensor([[encoder.tokenizer.bos_token_id, *[0] * 75, encoder.tokenizer.eos_token_id]])
    )
    assert torch.equal(assembled[0, 1:76], prompt.theta) and torch.equal(assembled[0], assembled[1])
    assert torch.equal(assembled[0, [0, 76]], ends[0, [0, 76]])


def test_a_prompt_that_starts_from_words_gives_their_features(encoder):
    batch = PromptBatch(("a/1", "b/2"), ("cat", "dog"))
    by_class = ClassPrompt(WIDTH, ["dog", "cat"], init="a photo of a {category}")
    by_class.initialise(encoder, 0)
    words = encoder.encode_prompt(["a photo of a cat", "a photo of a dog"])
    # All but the last row, where 75 learned rows leave the end token and not the words' filling.
    context = by_class.context(batch, encoder)
    torch.testing.assert_close(context[:, :76], words[:, :76], atol=1e-5, rtol=1e-4)
    for space in ("tokens", "hidden"):
        single = SinglePrompt(WIDTH, init="empty", space=space, length=75 if space == "tokens" else 77)
        single.initialise(encoder, 0)
        empty, rows = encoder.encode_prompt(["", ""]), 76 if space == "tokens" else 77
        context = single.context(batch, encoder)
        torch.testing.assert_close(context[:, :rows], empty[:, :rows], atol=1e-5, rtol=1e-4)


def test_random_starts_are_vocabulary_words_and_follow_the_seed(encoder):
    def start(seed):
        prompt = ClassPrompt(WIDTH, ["cat", "dog"])
        prompt.initialise(encoder, seed)
        return prompt.theta.detach()

    assert torch.equal(start(1), start(1)) and not torch.equal(start(1), start(2))
    assert not torch.equal(start(1)[0], start(1)[1])
    positions = encoder.embeddings.position_embedding.weight[1:76]
    vocabulary = encoder.embeddings.token_embedding.weight
    distance = torch.cdist(start(1)[0] - positions, vocabulary).amin(dim=1)
    assert float(distance.max()) < 1e-3


def test_a_class_prompt_knows_willows_words_and_refuses_strangers():
    prompt = ClassPrompt(WIDTH, ["car", "dog"], length=2)
    batch = PromptBatch(("a/1", "b/2", "c/3"), ("car(G)", "dog", "car(S)"))
    prompt.theta.data = torch.stack([torch.zeros(2, WIDTH), torch.ones(2, WIDTH)])
    assert prompt.embeddings(batch)[:, 0, 0].tolist() == [0.0, 1.0, 0.0]
    keys = prompt.cache_keys(batch)
    assert keys[0] == keys[2] != keys[1]
    with pytest.raises(UserError, match=r"not trained on 'duck'; it knows car, dog"):
        prompt.embeddings(PromptBatch(("d/1",), ("duck",)))


def test_cpm_is_its_definition(encoder):
    batch, prompt = pair_batch(), cpm(encoder)
    rows = prompt.embeddings(batch)
    assert rows.shape == (2, 8, WIDTH) and prompt.scope is Scope.PAIR
    for pair in range(2):
        seen = torch.cat([batch.vision.patches[pair], batch.trg_vision.patches[pair]], dim=1)
        reduced = seen @ prompt.g_d.weight.T + prompt.g_d.bias  # (patches, width)
        mixed = prompt.g_n.weight @ reduced + prompt.g_n.bias[:, None]
        for row in range(5):
            first, last = row * PATCHES // 5, -(-(row + 1) * PATCHES // 5)
            pooled = mixed[first:last].amax(dim=0)
            wanted = torch.tanh(prompt.omega_alpha[row]) * (pooled + prompt.omega_pos[row])
            torch.testing.assert_close(rows[pair, 3 + row], wanted, atol=1e-5, rtol=1e-4)
        assert torch.equal(rows[pair, :3], prompt.theta_global)
    paper = cpm(encoder, modulation="paper")
    found = rows[:, 3:] / torch.tanh(prompt.omega_alpha) - prompt.omega_pos
    torch.testing.assert_close(
        paper.embeddings(batch)[:, 3:], found * paper.omega_alpha + paper.omega_pos, atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize("features", ["local", "global"])
def test_normalised_features_leave_scale_and_offset_of_the_vision_model_behind(encoder, features):
    batch = pair_batch()
    louder = dataclasses.replace(
        batch, vision=VisionTokens(3 * batch.vision.patches + 2, 3 * batch.vision.cls + 2)
    )
    plain, normalised = (cpm(encoder, features=features, normalise=on) for on in (False, True))
    assert not torch.allclose(plain.embeddings(louder), plain.embeddings(batch), atol=1e-2)
    torch.testing.assert_close(
        normalised.embeddings(louder), normalised.embeddings(batch), atol=1e-4, rtol=1e-3
    )
    # Off, it is the released module; on, it is that on tokens of mean 0 and deviation 1.
    unit = [
        VisionTokens(
            *(torch.nn.functional.layer_norm(part, part.shape[-1:]) for part in (side.patches, side.cls))
        )
        for side in (batch.vision, batch.trg_vision)
    ]
    scaled = dataclasses.replace(batch, vision=unit[0], trg_vision=unit[1])
    torch.testing.assert_close(normalised.embeddings(batch), plain.embeddings(scaled))


@pytest.mark.parametrize(
    ("options", "scope", "rows"),
    [
        ({}, Scope.PAIR, 8),
        ({"features": "global"}, Scope.PAIR, 8),
        ({"condition_on": "image"}, Scope.IMAGE, 8),
        ({"condition_on": "image", "features": "global"}, Scope.IMAGE, 8),
        ({"use_global": False}, Scope.PAIR, 5),
        ({"mix_patches": False}, Scope.PAIR, 8),
    ],
)
def test_the_six_cases_of_the_ablation_see_what_they_may(encoder, options, scope, rows):
    prompt, batch = cpm(encoder, **options), pair_batch()
    assert prompt.scope is scope and prompt.embeddings(batch).shape[1] == rows
    swapped = dataclasses.replace(batch, trg_vision=tokens(2, seed=9))
    depends = not torch.equal(prompt.embeddings(batch), prompt.embeddings(swapped))
    assert depends == (scope is Scope.PAIR)
    local = dataclasses.replace(batch, vision=VisionTokens(tokens(2, 5).patches, batch.vision.cls))
    assert torch.equal(prompt.embeddings(batch), prompt.embeddings(local)) == (
        options.get("features") == "global"
    )
    loaded = prompt.context(batch, encoder)
    assert loaded.shape == (2, 77, WIDTH) and torch.isfinite(loaded).all()


def test_all_weights_learn_and_linear_layers_have_their_own_rate(encoder):
    prompt = cpm(encoder)
    groups = prompt.parameter_groups(0.01, 0.001)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rates[id(prompt.g_d.weight)] == rates[id(prompt.g_n.bias)] == 0.001
    assert rates[id(prompt.theta_global)] == rates[id(prompt.omega_pos)] == 0.01
    prompt.context(pair_batch(), encoder).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in prompt.parameters())
    assert [len(g["params"]) for g in SinglePrompt(WIDTH).parameter_groups(0.01, 0.001)] == [1]


def test_hidden_rows_stand_behind_the_text_model(encoder):
    prompt = cpm(encoder, space="hidden")
    batch = pair_batch()
    context = prompt.context(batch, encoder)
    torch.testing.assert_close(context[:, 1:9], prompt.embeddings(batch))
    empty = encoder.encode_prompt([""])
    assert torch.equal(context[:, :1], empty[:, :1].expand(2, -1, -1))
    assert torch.equal(context[:, 9:], empty[:, 9:].expand(2, -1, -1))
    with pytest.raises(UserError, match="behind the text model"):
        prompt.tokens(batch, encoder)


@pytest.mark.parametrize("kind", ["single", "class", "cpm"])
def test_prompts_come_back_from_their_files(encoder, tmp_path, kind):
    made = {
        "single": SinglePrompt(WIDTH, length=4),
        "class": ClassPrompt(WIDTH, ["cat", "dog"], length=4),
        "cpm": cpm(encoder, modulation="paper"),
    }[kind]
    if kind != "cpm":
        made.initialise(encoder, 3)
    made.save(tmp_path / "p.safetensors", {"dataset": "spair"})
    back = make_prompt(str(tmp_path / "p.safetensors"), load_profile("mini"))
    assert type(back) is type(made) and back.about == {"dataset": "spair"}
    assert back.identity() == made.identity() and back.config() == made.config()
    batch = pair_batch()
    assert torch.equal(back.context(batch, encoder), made.context(batch, encoder))
    assert not any(p.requires_grad for p in back.parameters())


def test_mistakes_in_prompts_are_said(encoder, tmp_path):
    long = SinglePrompt(WIDTH, length=76)
    with pytest.raises(UserError, match=r"prompt length 76 does not fit.*1 to 75"):
        long.initialise(encoder, 0)
    with pytest.raises(UserError, match="made for another model"):
        SinglePrompt(WIDTH + 1).context(pair_batch(), encoder)
    with pytest.raises(UserError, match="needs a category"):
        SinglePrompt(WIDTH, init="a {category}").initialise(encoder, 0)
    with pytest.raises(UserError, match=r"vision model's tokens of the target images \(cat/0t"):
        cpm(encoder).embeddings(dataclasses.replace(pair_batch(), trg_vision=None))
    with pytest.raises(UserError, match="16 patches of width 12, the vision model gives 16 of width 13"):
        cpm(encoder).embeddings(dataclasses.replace(pair_batch(), vision=tokens(2, width=13)))
    with pytest.raises(UserError, match="modulation is 'sum'; use one of released, paper"):
        cpm(encoder, modulation="sum")
    with pytest.raises(UserError, match="no space 'words'; use one of tokens, hidden"):
        SinglePrompt(WIDTH, space="words")
    with pytest.raises(UserError, match=r"no prompt 'cpm'.*sd4match train"):
        make_prompt("cpm", load_profile("mini"))


def test_new_prompts_fit_the_profiles_models():
    profile = load_profile("mini")
    prompt = new_prompt("cpm", profile, ["cat"], {"condition_on": "image"})
    side = profile.vision.crop // 14
    assert prompt.g_n.in_features == side * side and prompt.scope is Scope.IMAGE
    assert new_prompt("class", profile, ["cat", "dog"], {"length": 3}).theta.shape[:2] == (2, 3)
    with pytest.raises(UserError, match="no prompt to train 'text'; use one of single, class, cpm"):
        new_prompt("text", profile, [], {})
    with pytest.raises(UserError, match="single prompt has no option 'colour'; it has: length, space, init"):
        new_prompt("single", profile, [], {"colour": 1})
