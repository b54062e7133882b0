"""The checkpoints that the authors released, read safely and turned into this library's prompts.

`caption.pt` holds assembled token embeddings, one prompt or one per category; `ckpt.pt` holds a CPM's state
(method, section 3). Both are pickles: only tensors and plain containers are let in, never code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from sd4match_lib.errors import UserError
from sd4match_lib.prompts.cpm import ConditionalPrompt
from sd4match_lib.prompts.learned import DEFAULT_LENGTH, LearnedPrompt
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.prompts.single import SinglePrompt

_DATASET_KEY = "dataset"
_NAMES = {
    "global_embeds": "theta_global",
    "positional_embedding": "omega_pos",
    "alpha_cond": "omega_alpha",
    "linear_C.weight": "g_d.weight",
    "linear_C.bias": "g_d.bias",
    "linear_N.weight": "g_n.weight",
    "linear_N.bias": "g_n.bias",
}
_OPTIONAL = ("global_embeds", "linear_N.weight", "linear_N.bias")


def read_released(path: Path | str, *, length: int = DEFAULT_LENGTH) -> LearnedPrompt:
    """Read a released checkpoint.

    Args:
        path: a `caption.pt` or a `ckpt.pt`.
        length: how many of a caption's rows were learned; behind them stand its end token and filling.

    Returns:
        A Single, Class or CPM prompt, frozen.

    Raises:
        UserError: the file is missing, holds code, or is neither of the two.
    """
    content = _load(Path(path))
    if "alpha_cond" in content:
        prompt: LearnedPrompt = _conditional(content, path)
    elif content and all(_is_caption(value) for value in content.values()):
        prompt = _captions(content, length, path)
    else:
        keys = ", ".join(sorted(content)[:5]) or "nothing"
        raise UserError(
            f"{path} is neither a released caption.pt nor a ckpt.pt: it holds {keys}; name one of these."
        )
    prompt.about = {"source": f"converted from {Path(path).name}"}
    return prompt.eval().requires_grad_(False)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a released caption.pt or ckpt.pt.") from error
    except (UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is damaged or holds more than tensors, so it is not opened "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); get the original file."
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a released checkpoint's table.")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _is_caption(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 3 and value.shape[0] == 1


def _captions(content: dict[str, Any], length: int, path: Path | str) -> LearnedPrompt:
    shapes = {tuple(value.shape) for value in content.values()}
    if len(shapes) > 1:
        raise UserError(f"{path}: the captions differ in shape ({sorted(shapes)}); get the original file.")
    positions, width = next(iter(shapes))[1:]
    if not 1 <= length <= positions - 2:
        raise UserError(f"{path}: length {length} does not fit {positions} rows; use 1 to {positions - 2}.")
    rows = {name: value[0, 1 : length + 1].float() for name, value in content.items()}
    if list(rows) == [_DATASET_KEY]:
        single = SinglePrompt(width, length=length)
        single.theta.data = rows[_DATASET_KEY]
        return single
    by_class = ClassPrompt(width, sorted(rows), length=length)
    by_class.theta.data = torch.stack([rows[name] for name in sorted(rows)])
    return by_class


def _conditional(content: dict[str, Any], path: Path | str) -> ConditionalPrompt:
    missing = [name for name in _NAMES if name not in content and name not in _OPTIONAL]
    unknown = [name for name in content if name not in _NAMES]
    if missing or unknown:
        raise UserError(
            f"{path} is not a released CPM: it lacks {', '.join(missing) or 'nothing'} and has the unknown "
            f"{', '.join(unknown) or 'nothing'}; get the original file."
        )
    tensors = {_NAMES[name]: value.float() for name, value in content.items()}
    for name in ("theta_global", "omega_pos", "omega_alpha"):
        if name in tensors:
            tensors[name] = tensors[name].flatten(0, -2)
    width, features = tensors["g_d.weight"].shape
    mixed = "g_n.weight" in tensors
    tensors.setdefault("theta_global", torch.zeros(0, width))
    prompt = ConditionalPrompt(
        width,
        features // 2,
        tensors["g_n.weight"].shape[0] if mixed else 256,
        length_global=len(tensors["theta_global"]),
        length_condition=len(tensors["omega_pos"]),
        use_global=len(tensors["theta_global"]) > 0,
        mix_patches=mixed,
    )
    try:
        prompt.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: the tensors do not fit together ({error}).") from error
    return prompt
