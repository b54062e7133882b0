import pytest
import tiny
import torch

from sd4match_lib.backbones.clip_text import ClipTextEncoder, inner_text_model
from sd4match_lib.backbones.loading import quiet_loading
from sd4match_lib.errors import UserError

STRINGS = ["", "a photo of a cat", "a photo of the red car xyz"]


@pytest.fixture(scope="module")
def encoder(sd):
    return load(sd)


def load(sd):
    from transformers import CLIPTextModel, CLIPTokenizer

    with quiet_loading():
        model = CLIPTextModel.from_pretrained(sd / "text_encoder")
        return ClipTextEncoder(model, CLIPTokenizer.from_pretrained(sd / "tokenizer"))


def test_token_embeddings_of_a_string_give_what_the_stock_text_model_gives(encoder):
    context = encoder.encode_tokens(encoder.embed_prompt(STRINGS))
    stock = encoder.model(input_ids=encoder.token_ids(STRINGS)).last_hidden_state
    torch.testing.assert_close(context, stock, atol=1e-6, rtol=0)
    assert context.shape == (3, 77, 16)


def test_the_causal_mask_stays_in_charge(encoder):
    tokens = encoder.embed_prompt(["a photo of a cat"])
    changed = tokens.clone()
    changed[:, 40] = torch.linspace(-3, 3, 16)
    before, after = encoder.encode_tokens(tokens), encoder.encode_tokens(changed)
    assert torch.equal(before[:, :40], after[:, :40])
    assert not torch.allclose(before[:, 40], after[:, 40]) and not torch.equal(before[:, 76], after[:, 76])


def test_assemble_places_start_learned_end_and_fill_with_their_own_positions(encoder):
    learned = torch.randn(2, 3, 16)
    tokens = encoder.assemble(learned)
    words = encoder.embeddings.token_embedding.weight
    positions = encoder.embeddings.position_embedding.weight
    start, end = encoder.tokenizer.bos_token_id, encoder.tokenizer.eos_token_id
    assert torch.equal(tokens[:, 1:4], learned)
    for row, token in [(0, start), (4, end), (5, 0), (76, 0)]:
        torch.testing.assert_close(tokens[:, row], (words[token] + positions[row]).expand(2, -1))


def test_a_full_prompt_ends_in_row_76_and_a_longer_one_is_an_error(encoder):
    end, last = encoder.tokenizer.eos_token_id, 76
    tokens = encoder.assemble(torch.zeros(1, 75, 16))
    expected = (
        encoder.embeddings.token_embedding.weight[end] + encoder.embeddings.position_embedding.weight[last]
    )
    torch.testing.assert_close(tokens[0, last], expected)
    with pytest.raises(UserError, match="prompt length 76 does not fit"):
        encoder.assemble(torch.zeros(1, 76, 16))


def test_learned_rows_equal_to_a_strings_own_rows_give_the_strings_context(encoder):
    # The tiny tokenizer pads with id 0 as SD2-1's does, so the assembled prompt is the string's.
    ids = encoder.token_ids(["a photo of a cat"])[0]
    words = int((ids == encoder.tokenizer.eos_token_id).nonzero()[0]) - 1
    own = encoder.embed_prompt(["a photo of a cat"])[:, 1 : words + 1]
    torch.testing.assert_close(encoder.assemble(own), encoder.embed_prompt(["a photo of a cat"]))


def test_prompts_of_another_width_or_length_are_errors(encoder):
    with pytest.raises(UserError, match="32 wide and this text model 16"):
        encoder.assemble(torch.zeros(1, 5, 32))
    with pytest.raises(UserError, match="made for another model"):
        encoder.encode_tokens(torch.zeros(1, 76, 16))


def test_gradients_reach_the_learned_rows_and_nothing_else(encoder):
    learned = torch.randn(1, 75, 16, requires_grad=True)
    encoder.encode_tokens(encoder.assemble(learned)).square().sum().backward()
    assert learned.grad is not None and learned.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in encoder.model.parameters())


def test_the_hook_is_gone_even_after_an_error_inside_the_text_model(sd):
    encoder = load(sd)

    def fail(*_):
        raise RuntimeError("broken on purpose")

    encoder.model.encoder.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        encoder.encode_tokens(torch.zeros(1, 77, 16))
    assert not encoder.embeddings._forward_hooks


def test_a_text_model_that_wraps_its_inner_model_works_the_same(encoder):
    class OldLayout(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.text_model = inner

        def forward(self, **arguments):
            return self.text_model(**arguments)

    old = OldLayout(encoder.model)
    assert inner_text_model(old) is encoder.model
    assert inner_text_model(encoder.model) is encoder.model
    wrapped = ClipTextEncoder(old, encoder.tokenizer)
    tokens = encoder.embed_prompt(STRINGS)
    assert torch.equal(wrapped.encode_tokens(tokens), encoder.encode_tokens(tokens))


def test_checkpoints_with_the_names_of_transformers_4_load_alike(encoder, tmp_path):
    sd = tiny.write_diffusion(tmp_path)
    tiny.write_old_clip_layout(sd / "text_encoder")
    old = load(sd)
    assert torch.equal(old.encode_prompt(STRINGS), encoder.encode_prompt(STRINGS))


def test_a_tokenizer_in_the_published_models_files_gives_the_same_ids(encoder, sd, tmp_path):
    import json

    from transformers import CLIPTokenizer

    model = json.loads((sd / "tokenizer" / "tokenizer.json").read_text())["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 77, "pad_token": "<|endoftext|>"}')
    # SD2-1 says "!" here, and something else in its configuration.
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "!"}')
    published = ClipTextEncoder(encoder.model, CLIPTokenizer.from_pretrained(tmp_path))
    assert torch.equal(published.token_ids(STRINGS), encoder.token_ids(STRINGS))


def test_a_string_is_encoded_once_whatever_its_company(sd):
    encoder = load(sd)
    calls = []
    encoder.model.register_forward_hook(lambda *_: calls.append(1))
    contexts = encoder.encode_prompt(["a cat", "a dog", "a cat"])
    assert torch.equal(contexts[2], encoder.encode_prompt(["a cat"])[0])
    assert len(calls) == 2
