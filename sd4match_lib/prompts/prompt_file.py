"""Prompts on disk: safetensors with a JSON header that says what the tensors are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sd4match_lib.errors import UserError
from sd4match_lib.utils.files import atomic_write_bytes

M = TypeVar("M", bound=nn.Module)

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


def read_prompt_file(path: Path | str, kinds: Sequence[str]) -> PromptFile:
    """Read a prompt file.

    Args:
        path: the file.
        kinds: which prompts it may hold.

    Raises:
        UserError: the file is missing, cut off, not written by this library, or holds another kind of prompt.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            header = json.loads((stream.metadata() or {}).get(HEADER_KEY, "null"))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; it should hold a {' or '.join(kinds)} prompt.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a complete safetensors file ({error}); copy or make it again."
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(
            f"{path} has no '{HEADER_KEY}' header of format {FORMAT}, so it is not a prompt of this library."
        )
    kind = header.get("kind")
    if kind not in kinds:
        raise UserError(
            f"{path} holds a {kind!r} prompt, but a prompt of kind {' or '.join(kinds)} is needed."
        )
    return PromptFile(str(kind), dict(header.get("config", {})), dict(header.get("about", {})), tensors)


def restore_module(cls: type[M], content: PromptFile, path: Path | str) -> M:
    """Make the module that a file describes, frozen.

    Args:
        cls: takes the file's configuration.
        content: the file's content.
        path: the file, for messages.

    Raises:
        UserError: configuration and weights do not belong together.
    """
    try:
        module = cls(**content.config)
        module.load_state_dict({name: tensor.float() for name, tensor in content.tensors.items()})
    except (TypeError, RuntimeError) as error:
        raise UserError(
            f"{path} does not hold the weights of a {content.kind} prompt ({error}); make it again."
        ) from error
    return module.eval().requires_grad_(False)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over the names, shapes and float32 values of a module's weights."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{list(state[name].shape)}".encode())
        digest.update(state[name].detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
