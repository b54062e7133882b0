"""Prompts on disk: safetensors with a JSON header that says what the tensors are."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sd4match_lib.errors import UserError, reason
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.reading import check_file, parse_json, read_tensor_header

M = TypeVar("M", bound=nn.Module)

HEADER_KEY = "sd4match"
FORMAT = 1
MOST_BYTES = 64 * 2**20
"""The largest prompt for Stable Diffusion, a class prompt of 20 categories, has 6 MB."""
_OPTIONAL = ("theta_global",)
"""What may have no rows: a CPM without its global prompt."""


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
    """Read a prompt file that holds one of some kinds of prompts.

    Raises:
        UserError: the file is missing, cut off, not written by this library, or holds another kind of prompt.
    """
    wanted = " or ".join(kinds)
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; it should hold a {wanted} prompt.")
    check_file(path, limit=MOST_BYTES, fix=f"name a {wanted} prompt")
    again = "copy or make it again"
    known, about = read_tensor_header(path, fix=again)
    header = parse_json(path, about.get(HEADER_KEY, "null"), fix=again)
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            tensors = {name: stream.get_tensor(name) for name in known}
    except Exception as error:  # the library raises anything from SafetensorError to AttributeError
        raise UserError(f"{path} is not a complete safetensors file ({reason(error)}); {again}.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(
            f"{path} has no '{HEADER_KEY}' header of format {FORMAT}, so it is not a prompt of this library."
        )
    kind = header.get("kind")
    if kind not in kinds:
        raise UserError(
            f"{path} holds a {kind!r} prompt, but a prompt of kind {' or '.join(kinds)} is needed."
        )
    config, source = header.get("config", {}), header.get("about", {})
    if not (isinstance(config, dict) and isinstance(source, dict)):
        raise UserError(f"{path}: 'config' and 'about' in its '{HEADER_KEY}' header must be tables; {again}.")
    for name, tensor in tensors.items():
        check_tensor(tensor, f"{path}: the tensor {name!r}")
    return PromptFile(str(kind), config, source, tensors)


def describe_prompt_file(path: Path | str) -> str:
    """Say in a few words what a prompt file holds, such as "class, spair, 40 steps, seed 0".

    Raises:
        UserError: the file is missing, cut off, or not written by this library.
    """
    header = parse_json(path, read_tensor_header(path)[1].get(HEADER_KEY, "null"), fix="make it again")
    if not isinstance(header, dict) or not isinstance(header.get("about", {}), dict):
        raise UserError(f"{path} has no '{HEADER_KEY}' header, so it is not a prompt of this library.")
    about = header.get("about", {})
    words = [header.get("kind"), about.get("dataset")]
    words += [f"{about['steps']} steps"] if "steps" in about else []
    words += [f"seed {about['seed']}"] if "seed" in about else []
    return ", ".join(str(word) for word in words if word)


def check_tensor(tensor: Tensor, what: str) -> None:
    """Refuse what cannot be the weights of a prompt; `what` names file and tensor.

    Raises:
        UserError: it is sparse, nested, quantised, complex, of whole numbers, not finite, or larger than any
            prompt.
    """
    # A nested tensor calls itself strided, and has no shape.
    plain = tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized
    if not plain or tensor.device.type != "cpu" or not tensor.is_floating_point():
        raise UserError(f"{what} is not made of plain floating-point numbers; get the original file.")
    # An expanded tensor is any size for a few bytes on the disk.
    if tensor.numel() * 4 > MOST_BYTES:
        raise UserError(
            f"{what} has the shape {tuple(tensor.shape)}, larger than any prompt; get the original."
        )
    if not tensor.float().isfinite().all():
        raise UserError(f"{what} holds numbers that are not finite; make it again.")


def restore_module(cls: Callable[..., M], content: PromptFile, path: Path | str) -> M:
    """Make the module that a file's content describes, frozen.

    Raises:
        UserError: configuration and weights do not belong together.
    """
    try:
        # On the device "meta" nothing is allocated: what a configuration asks for may not be what is there.
        with torch.device("meta"):
            module = cls(**content.config)
        empty = [
            name for name, tensor in content.tensors.items() if not tensor.numel() and name not in _OPTIONAL
        ]
        if empty:
            raise ValueError(f"{empty[0]} is empty")
        tensors = {name: tensor.float() for name, tensor in content.tensors.items()}
        module.load_state_dict(tensors, assign=True)
    except (UserError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(
            f"{path} does not hold the weights of a {content.kind} prompt ({reason(error)}); make it again."
        ) from error
    return module.eval().requires_grad_(False)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over the names, shapes and float32 values of a module's weights."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{list(state[name].shape)}".encode())
        digest.update(state[name].detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
