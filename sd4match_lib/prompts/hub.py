"""Learned prompts that travel: a folder with weights and card, here or on the Hugging Face hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from sd4match_lib.backbones.weights import is_hub_id
from sd4match_lib.errors import UserError, reason
from sd4match_lib.prompts.factory import PROMPT_FILE, load_prompt
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.utils.files import atomic_write_text, scratch_folder
from sd4match_lib.utils.markdown import escape_markdown
from sd4match_lib.utils.paths import user_path

CARD = "README.md"


def save_pretrained(prompt: LearnedPrompt, folder: Path | str) -> list[Path]:
    """Write a prompt's weights to a folder, with a card that tells its `about`: where they come from.

    Returns:
        The files written: `prompt.safetensors` and `README.md`.
    """
    weights, card = Path(folder) / PROMPT_FILE, Path(folder) / CARD
    prompt.save(weights, prompt.about)
    atomic_write_text(card, str(prompt_card(prompt)))
    return [weights, card]


def from_pretrained(source: Path | str, *, revision: str | None = None) -> LearnedPrompt:
    """Load a learned prompt, frozen.

    Args:
        source: a folder that `save_pretrained` wrote, a `.safetensors` file, or the id of a hub's repository,
            `owner/name`. What is on disk comes first.
        revision: of the repository: a branch, tag or commit.

    Raises:
        UserError: there is no such prompt, the hub cannot be reached, or the file holds something else.
    """
    path = user_path(source)
    if path.exists() or not is_hub_id(str(source)):
        return load_prompt(path)
    try:
        return load_prompt(hf_hub_download(str(source), PROMPT_FILE, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{source}: there is no such folder here, and {PROMPT_FILE} did not come from the hub "
            f"({said}); correct the name, or copy the prompt's file."
        ) from error


def push_to_hub(
    prompt: LearnedPrompt, repo_id: str, *, private: bool = False, revision: str | None = None
) -> str:
    """Upload a prompt's weights and card; the repository is made when missing.

    Args:
        prompt: a learned prompt.
        repo_id: `owner/name`; who may write there is huggingface_hub's matter (`hf auth login`).
        private: of a new repository.
        revision: the branch; the main one when None.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    try:
        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        with scratch_folder() as folder:
            save_pretrained(prompt, folder)
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=f"{prompt.kind} prompt"
            )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(f"{repo_id}: the hub does not take the prompt ({reason(error)}).") from error
    return str(done.commit_url)


def prompt_card(prompt: LearnedPrompt) -> ModelCard:
    """Return the card of a prompt: what it is, what it was learned on, how to load it."""
    parameters = sum(parameter.numel() for parameter in prompt.parameters())
    data = ModelCardData(library_name="sd4match", tags=["semantic-correspondence", "prompt-learning"])
    about = _lines({**prompt.config(), **{key: value for key, value in prompt.about.items() if value}})
    return ModelCard(
        f"---\n{data.to_yaml()}\n---\n\n# A learned prompt of kind `{prompt.kind}`\n\n"
        f"Learned with the matching loss of SD4Match (arXiv 2310.17569): {parameters:,} numbers that stand "
        "in for words in front of a frozen diffusion model, so that its features match points between "
        "pictures. It belongs to the model with the hash below, and to no other.\n\n"
        "```python\nfrom sd4match_lib import Prompt\n\n"
        'prompt = Prompt.from_pretrained("this folder, or its id on the hub")\n```\n\n'
        f"| | |\n|---|---|\n{about}\n"
    )


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {escape_markdown(key)} | "
        f"{escape_markdown(', '.join(map(str, value)) if isinstance(value, list) else str(value))} |"
        for key, value in values.items()
    )
