import shutil
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError

from sd4match_lib import Prompt
from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.prompts import hub
from sd4match_lib.prompts.factory import make_prompt
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.prompts.single import SinglePrompt


@pytest.fixture
def prompt():
    made = SinglePrompt(4, length=3)
    made.theta.data = torch.arange(12.0).view(3, 4) / 7
    made.about = {
        "profile": "mini",
        "dataset": "spair",
        "steps": 50,
        "validation PCK@0.10": 0.431,
        "vision": None,
    }
    return made


class Hub:
    """A hub in a folder: what is uploaded can be downloaded again."""

    def __init__(self, folder):
        self.folder, self.made = folder, []

    def create_repo(self, repo_id, *, private, exist_ok):
        self.made.append((repo_id, private, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, revision, commit_message):
        shutil.copytree(folder_path, self.folder / repo_id)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    def download(self, repo_id, name, *, revision):
        path = self.folder / repo_id / name
        if not path.is_file():
            raise LocalEntryNotFoundError(f"no {repo_id} in the cache\nand more")
        return str(path)


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    fake = Hub(tmp_path / "hub")
    monkeypatch.setattr(hub, "HfApi", lambda: fake)
    monkeypatch.setattr(hub, "hf_hub_download", fake.download)
    return fake


def test_a_prompt_comes_back_from_its_folder_with_all_that_is_known_of_it(prompt, tmp_path):
    weights, card = prompt.save_pretrained(tmp_path / "mine")
    assert (weights.name, card.name) == ("prompt.safetensors", "README.md")
    # Wherever a prompt is named, the folder names it too.
    named = make_prompt(str(tmp_path / "mine"), load_profile("mini"))
    for back in (Prompt.from_pretrained(tmp_path / "mine"), Prompt.from_pretrained(weights), named):
        assert torch.equal(back.theta, prompt.theta) and not back.theta.requires_grad
        assert back.fingerprint() == prompt.fingerprint() and back.about == prompt.about


def test_the_card_tells_what_it_was_learned_on_and_is_a_card_of_the_hub(prompt, tmp_path):
    _, card = prompt.save_pretrained(tmp_path)
    loaded = ModelCard.load(card)
    assert loaded.data.library_name == "sd4match"
    for told in (
        "kind `single`",
        "12 numbers",
        "| profile | mini |",
        "| steps | 50 |",
        "| validation PCK@0.10 | 0.431 |",
    ):
        assert told in loaded.text
    assert "vision" not in loaded.text, "what is not known is not told"
    assert "| categories | cat, dog |" in hub.prompt_card(ClassPrompt(4, ["cat", "dog"])).text


def test_it_travels_through_the_hub(prompt, fake_hub):
    address = prompt.push_to_hub("someone/cats", private=True)
    assert address.endswith("someone/cats/commit/1") and fake_hub.made == [("someone/cats", True, True)]
    assert torch.equal(Prompt.from_pretrained("someone/cats").theta, prompt.theta)


def test_what_is_not_there_is_said_in_one_line(fake_hub, tmp_path):
    with pytest.raises(
        UserError, match=r"someone/dogs: there is no such folder here.*no someone/dogs in the cache\)"
    ):
        Prompt.from_pretrained("someone/dogs")
    with pytest.raises(UserError, match=r"nothing\.safetensors does not exist"):
        Prompt.from_pretrained(tmp_path / "nothing.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"prompt\.safetensors does not exist"):
        Prompt.from_pretrained(tmp_path / "empty")
