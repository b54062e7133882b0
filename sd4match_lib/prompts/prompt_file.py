"""Prompts on disk: safetensors with a JSON header that says what the tensors are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sd4match_lib.errors import UserError
from sd4match_lib.files import atomic_write_bytes

HEADER_KEY = "sd4match"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class PromptFile:
    """The content of a prompt file.

    Attributes:
        kind: which prompt, e.g. "captioner".
        config: what the prompt is made from, as plain data.
        about: where it comes from, for people: model, data set, steps, licence, metrics.
        tensors: its weights, on the CPU.
    """

    kind: str
    config: dict[str, Any]
    about: dict[str, Any]
    tensors: dict[str, Tensor]


def write_prompt_file(path: Path | str, content: PromptFile) -> None:
    """Write a prompt file atomically."""
    header = {
        "format": FORMAT,
        "kind": content.kind,
        "config": content.config,
        "about": content.about,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in content.tensors.items()}
    atomic_write_bytes(Path(path), save(tensors, metadata={HEADER_KEY: json.dumps(header, sort_keys=True)}))


def read_prompt_file(path: Path | str, kind: str) -> PromptFile:
    """Read a prompt file.

    Args:
        path: the file.
        kind: which prompt it must hold.

    Raises:
        UserError: the file is missing, cut off, not written by this library, or holds another kind of prompt.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            header = json.loads((stream.metadata() or {}).get(HEADER_KEY, "null"))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; it should hold a {kind} prompt.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a complete safetensors file ({error}); copy or make it again."
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(
            f"{path} has no '{HEADER_KEY}' header of format {FORMAT}, so it is not a prompt of this library."
        )
    if header.get("kind") != kind:
        raise UserError(f"{path} holds a {header.get('kind')!r} prompt, but a {kind!r} prompt is needed.")
    return PromptFile(kind, dict(header.get("config", {})), dict(header.get("about", {})), tensors)
