import pytest
import torch
from safetensors.torch import load_file

from sd4match_lib.backbones.vision import VisionTokens
from sd4match_lib.cli.main import main
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import PromptBatch
from sd4match_lib.prompts.factory import load_prompt
from sd4match_lib.prompts.released import read_released
from sd4match_lib.prompts.single import SinglePrompt
from sd4match_lib.prompts.textual_inversion import embedding_vectors

WIDTH = 16


def assembled(encoder, rows):
    """Token embeddings as the released code keeps them: fixed rows from the embedding layer."""
    ids = torch.zeros(1, 77, dtype=torch.long)
    ids[0, 0], ids[0, len(rows) + 1] = encoder.tokenizer.bos_token_id, encoder.tokenizer.eos_token_id
    whole = encoder.embed_ids(ids)
    whole[0, 1 : len(rows) + 1] = rows
    return whole


def test_released_captions_give_the_same_token_embeddings(encoder, tmp_path):
    rows = torch.randn(3, 75, WIDTH)
    torch.save({"dataset": assembled(encoder, rows[0])}, tmp_path / "caption.pt")
    single = read_released(tmp_path / "caption.pt")
    batch = PromptBatch(("a/1", "b/2"), ("dog", "cat"))
    assert torch.equal(single.tokens(batch, encoder)[1], assembled(encoder, rows[0])[0])
    content = {name: assembled(encoder, row) for name, row in zip(("cat", "dog"), rows[1:], strict=True)}
    torch.save(content, tmp_path / "caption.pt")
    by_class = read_released(tmp_path / "caption.pt")
    assert torch.equal(by_class.tokens(batch, encoder), torch.cat([content["dog"], content["cat"]]))
    short = torch.randn(10, WIDTH)
    torch.save({"dataset": assembled(encoder, short)}, tmp_path / "caption.pt")
    back = read_released(tmp_path / "caption.pt", length=10)
    assert torch.equal(back.tokens(batch, encoder)[0], assembled(encoder, short)[0])


def released_state(width=WIDTH, vision=12, patches=16):
    return {
        "global_embeds": torch.randn(1, 25, width),
        "positional_embedding": torch.randn(1, 50, width),
        "alpha_cond": torch.randn(1, 50, width),
        "linear_C.weight": torch.randn(width, 2 * vision),
        "linear_C.bias": torch.randn(width),
        "linear_N.weight": torch.randn(patches, patches),
        "linear_N.bias": torch.randn(patches),
    }


def test_a_released_cpm_gives_the_output_of_its_definition(tmp_path):
    state = released_state(patches=64)
    torch.save(state, tmp_path / "ckpt.pt")
    assert main(["convert", str(tmp_path / "ckpt.pt"), str(tmp_path / "cpm.safetensors")]) == 0
    prompt = load_prompt(tmp_path / "cpm.safetensors")
    src, trg = (VisionTokens(torch.randn(2, 64, 12), torch.randn(2, 12)) for _ in range(2))
    rows = prompt.embeddings(PromptBatch(("a", "b"), ("cat", "cat"), ("c", "d"), src, trg))
    seen = torch.cat([src.patches, trg.patches], dim=2) @ state["linear_C.weight"].T + state["linear_C.bias"]
    mixed = seen.transpose(1, 2) @ state["linear_N.weight"].T + state["linear_N.bias"]
    pooled = torch.nn.functional.adaptive_max_pool1d(mixed, 50).transpose(1, 2)
    wanted = torch.tanh(state["alpha_cond"]) * (pooled + state["positional_embedding"])
    torch.testing.assert_close(rows[:, 25:], wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rows[:, :25], state["global_embeds"].expand(2, -1, -1))


def test_an_exported_word_is_the_prompt_to_a_stock_pipeline(sd, encoder, tmp_path):
    from diffusers.loaders import TextualInversionLoaderMixin
    from transformers import CLIPTextModel, CLIPTokenizer

    prompt = SinglePrompt(WIDTH, length=5)
    prompt.initialise(encoder, 4)
    prompt.save(tmp_path / "single.safetensors", {})
    from sd4match_lib.prompts.textual_inversion import export_embedding

    export_embedding(tmp_path / "word.safetensors", "<sd4>", embedding_vectors(prompt, encoder), encoder)
    assert list(load_file(tmp_path / "word.safetensors")) == ["<sd4>"]

    class Pipeline(TextualInversionLoaderMixin):
        tokenizer = CLIPTokenizer.from_pretrained(sd / "tokenizer")
        text_encoder = CLIPTextModel.from_pretrained(sd / "text_encoder")
        components: dict = {}  # noqa: RUF012
        hf_device_map = None

    pipeline = Pipeline()
    pipeline.load_textual_inversion(load_file(tmp_path / "word.safetensors"), token="<sd4>")
    text = pipeline.maybe_convert_prompt("<sd4>", pipeline.tokenizer)
    ids = pipeline.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        stock = pipeline.text_encoder(ids).last_hidden_state
    ours = prompt.context(PromptBatch(("a/1",), ("cat",)), encoder)
    torch.testing.assert_close(stock, ours.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("word", ["", "two words", "<|endoftext|>", "cat</w>"])
def test_a_word_that_a_pipeline_could_not_take_is_refused(encoder, tmp_path, word):
    from sd4match_lib.prompts.textual_inversion import export_embedding

    with pytest.raises(UserError, match="such as <sd4match>"):
        export_embedding(tmp_path / "word.safetensors", word, torch.zeros(4, WIDTH), encoder)
    assert not (tmp_path / "word.safetensors").exists()


def test_prompts_without_the_form_of_a_word_are_refused(encoder):
    with pytest.raises(UserError, match="only Single and Class prompts"):
        embedding_vectors(SinglePrompt(WIDTH, length=77, space="hidden"), encoder)
