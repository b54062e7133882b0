"""Learned prompts from files: each file says itself which kind of prompt it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sd4match_lib.prompts.cpm import ConditionalPrompt
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.prompts.prompt_file import read_prompt_file, restore_module
from sd4match_lib.prompts.single import SinglePrompt

LEARNED: Final[dict[str, type[LearnedPrompt]]] = {
    cls.kind: cls for cls in (SinglePrompt, ClassPrompt, ConditionalPrompt)
}
"""The learned prompts by their words: single, class, cpm."""


def load_prompt(path: Path | str) -> LearnedPrompt:
    """Load a learned prompt, frozen.

    Args:
        path: a `.safetensors` file that `LearnedPrompt.save` wrote.

    Raises:
        UserError: the file is missing, cut off, or holds something else.
    """
    content = read_prompt_file(path, tuple(LEARNED))
    prompt = restore_module(LEARNED[content.kind], content, path)
    prompt.about = content.about
    return prompt
