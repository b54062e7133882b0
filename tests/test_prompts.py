import dataclasses

import pytest
import torch

from sd4match_lib.backbones.vision import VisionTokens
from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import Prompt, PromptBatch, Scope
from sd4match_lib.prompts.captioner import ImplicitCaptioner
from sd4match_lib.prompts.factory import make_prompt
from sd4match_lib.prompts.prompt_file import PromptFile, write_prompt_file
from sd4match_lib.prompts.text import EmptyPrompt, TextPrompt

IDS = ("cat/one", "cat/two", "car(G)/one")
CATEGORIES = ("cat", "cat", "car(G)")


def batch(vision=None):
    return PromptBatch(IDS, CATEGORIES, vision=vision)


def vision(width=12):
    return VisionTokens(torch.randn(3, 16, width), torch.randn(3, width))


def stock(encoder, *strings):
    with torch.no_grad():
        return encoder.model(input_ids=encoder.token_ids(strings)).last_hidden_state


def test_empty_and_text_prompts_give_the_stock_contexts(encoder):
    torch.testing.assert_close(
        EmptyPrompt().context(batch(), encoder), stock(encoder, "", "", ""), atol=1e-6, rtol=0
    )
    sentences = ["a photo of a cat", "a photo of a cat", "a photo of a car"]
    torch.testing.assert_close(
        TextPrompt().context(batch(), encoder), stock(encoder, *sentences), atol=1e-6, rtol=0
    )
    assert TextPrompt("the {category}").strings(batch()) == ["the cat", "the cat", "the car"]


def test_scopes_say_what_can_be_cached():
    assert EmptyPrompt.scope is Scope.DATASET and EmptyPrompt().cache_keys(batch()) == ["", "", ""]
    assert TextPrompt.scope is Scope.IMAGE
    keys = TextPrompt().cache_keys(batch())
    assert keys[0] == keys[1] != keys[2]
    assert ImplicitCaptioner(12, 16).cache_keys(batch()) == list(IDS)


def test_a_template_without_a_category_is_an_error():
    with pytest.raises(UserError, match=r"lacks '\{category\}'"):
        TextPrompt("a photo")


def test_the_text_model_runs_once_per_distinct_prompt_of_a_batch(encoder):
    class PerCategory(Prompt):
        scope = Scope.IMAGE
        rows = 0

        def tokens(self, batch, encoder):
            self.rows = len(batch)
            # Rows that differ within themselves: the final layer norm takes out what is constant.
            rows = {
                name: torch.randn(2, 16, generator=torch.Generator().manual_seed(len(name)))
                for name in batch.categories
            }
            return encoder.assemble(torch.stack([rows[name] for name in batch.categories]))

        def cache_keys(self, batch):
            return list(batch.categories)

        def identity(self):
            return {}

    prompt = PerCategory()
    contexts = prompt.context(batch(), encoder)
    assert prompt.rows == 2
    assert torch.equal(contexts[0], contexts[1]) and not torch.allclose(contexts[0], contexts[2])


def test_pairs_are_told_apart_by_both_images():
    class PerPair(EmptyPrompt):
        scope = Scope.PAIR
        cache_keys = Prompt.cache_keys

    rows = PromptBatch(("a", "a", "a"), ("cat",) * 3, ("b", "c", "b"))
    keys = PerPair().cache_keys(rows)
    assert keys[0] == keys[2] != keys[1]
    assert rows.select([1]).trg_image_ids == ("c",)


def test_the_captioner_puts_projected_descriptors_between_start_and_end(encoder):
    captioner = ImplicitCaptioner(12, 16)
    seen = vision()
    tokens = captioner.tokens(batch(seen), encoder)
    expected = seen.cls @ captioner.projection.weight.T + captioner.projection.bias
    torch.testing.assert_close(tokens[:, 1:76], expected[:, None] + captioner.positions)
    contexts = captioner.context(batch(seen), encoder)
    assert contexts.shape == (3, 77, 16) and not torch.allclose(contexts[0], contexts[1])
    contexts.square().sum().backward()
    assert captioner.projection.weight.grad.abs().sum() > 0 and captioner.positions.grad.abs().sum() > 0


def test_a_captioner_survives_saving(encoder, tmp_path):
    captioner = ImplicitCaptioner(12, 16)
    path = tmp_path / "captioner.safetensors"
    captioner.save(path, {"steps": 7})
    loaded = ImplicitCaptioner.load(path)
    seen = vision()
    assert torch.equal(loaded.tokens(batch(seen), encoder), captioner.tokens(batch(seen), encoder))
    assert loaded.about == {"steps": 7} and loaded.identity() == captioner.identity()
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with torch.no_grad():
        captioner.positions[0, 0] += 1e-3
    assert loaded.identity() != captioner.identity()


def test_damaged_foreign_and_missing_files_are_one_sentence_each(tmp_path):
    path = tmp_path / "captioner.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        ImplicitCaptioner.load(path)
    ImplicitCaptioner(12, 16).save(path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        ImplicitCaptioner.load(path)
    write_prompt_file(path, PromptFile("single", {}, {}, {"rows": torch.zeros(1)}))
    with pytest.raises(UserError, match="holds a 'single' prompt"):
        ImplicitCaptioner.load(path)
    write_prompt_file(path, PromptFile("captioner", {"vision_width": 3, "token_width": 4}, {}, {}))
    with pytest.raises(UserError, match="does not hold the weights of a captioner"):
        ImplicitCaptioner.load(path)
    from safetensors.torch import save_file

    save_file({"rows": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="no 'sd4match' header"):
        ImplicitCaptioner.load(path)


def test_a_captioner_for_other_models_is_an_error(encoder):
    with pytest.raises(UserError, match="vision features of width 20"):
        ImplicitCaptioner(20, 16).tokens(batch(vision()), encoder)
    with pytest.raises(UserError, match="made for another model"):
        ImplicitCaptioner(12, 32).tokens(batch(vision()), encoder)
    with pytest.raises(UserError, match="needs the vision model's tokens"):
        ImplicitCaptioner(12, 16).tokens(batch(), encoder)


def test_prompts_are_made_by_name(tmp_path):
    profile = dataclasses.replace(load_profile("mini"), captioner=str(tmp_path / "none.safetensors"))
    assert isinstance(make_prompt("empty", profile), EmptyPrompt)
    assert isinstance(make_prompt("text", profile), TextPrompt)
    with pytest.raises(UserError, match=r"no captioner weights .*none\.safetensors"):
        make_prompt("captioner", profile)
    with pytest.raises(UserError, match=r"no prompt 'cpm'.*empty, text, captioner"):
        make_prompt("cpm", profile)
    ImplicitCaptioner(12, 16).save(profile.captioner, {})
    assert isinstance(make_prompt("captioner", profile), ImplicitCaptioner)
