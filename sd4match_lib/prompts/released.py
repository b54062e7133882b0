"""The checkpoints that the authors released, read safely and turned into this library's prompts.

`caption.pt` holds assembled token embeddings, one prompt or one per category; `ckpt.pt` holds a CPM's state
(method, section 3). Both are pickles: only tensors and plain containers are let in, never code.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sd4match_lib.errors import UserError, reason
from sd4match_lib.prompts.cpm import ConditionalPrompt
from sd4match_lib.prompts.learned import DEFAULT_LENGTH, LearnedPrompt
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.prompts.prompt_file import MOST_BYTES, check_tensor
from sd4match_lib.prompts.single import SinglePrompt
from sd4match_lib.utils.reading import check_file

_DATASET_KEY = "dataset"
_PARALLEL = "module."
"""What names begin with in a checkpoint of a model that was spread over several GPUs."""
_GLOBAL = "global_embeds"
"""What may have no rows."""
_NAMES = {
    _GLOBAL: "theta_global",
    "positional_embedding": "omega_pos",
    "alpha_cond": "omega_alpha",
    "linear_C.weight": "g_d.weight",
    "linear_C.bias": "g_d.bias",
    "linear_N.weight": "g_n.weight",
    "linear_N.bias": "g_n.bias",
}
_DIMENSIONS = {
    _GLOBAL: (2, 3), "positional_embedding": (2, 3), "alpha_cond": (2, 3), "linear_C.weight": (2,),
    "linear_C.bias": (1,), "linear_N.weight": (2,), "linear_N.bias": (1,),
}  # fmt: skip
_ORIGINAL = "get the original file"
_MOST_UNPACKED = 256 * 2**20
_OPTIONAL = (_GLOBAL, "linear_N.weight", "linear_N.bias")


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
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; name a released caption.pt or ckpt.pt.")
    check_file(path, limit=_MOST_UNPACKED, fix=_ORIGINAL)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > _MOST_UNPACKED:
                raise ValueError(f"it unpacks to {unpacked / 2**20:,.0f} MB")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's and zip's readers raise nearly anything on damaged files
        raise UserError(
            f"{path} is damaged or holds more than tensors, so it is not opened "
            f"({reason(error).partition('. ')[0]}); {_ORIGINAL}."
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a released checkpoint's table; {_ORIGINAL}."
        )
    found: dict[str, Any] = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise UserError(f"{path}: the name {key!r} of an entry is not a text; {_ORIGINAL}.")
        name = key.removeprefix(_PARALLEL)
        if name in found:
            raise UserError(f"{path} holds both {name!r} and {_PARALLEL + name!r}; {_ORIGINAL}.")
        if isinstance(value, Tensor):
            check_tensor(value, f"{path}: {key!r}")
        found[name] = value
    size = sum(4 * value.numel() for value in found.values() if isinstance(value, Tensor))
    if size > MOST_BYTES:
        raise UserError(f"{path} holds {size / 2**20:,.0f} MB of numbers, more than a prompt; {_ORIGINAL}.")
    return found


def _is_caption(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 3 and value.shape[0] == 1 and value.numel() > 0


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
    try:
        by_class = ClassPrompt(width, sorted(rows), length=length)
    except UserError as error:
        raise UserError(f"{path}: an entry names no category ({reason(error)}); {_ORIGINAL}.") from error
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
    odd = [
        name
        for name, value in content.items()
        if not isinstance(value, Tensor)
        or value.ndim not in _DIMENSIONS[name]
        or not (value.numel() or name == _GLOBAL)
    ]
    if odd:
        raise UserError(f"{path}: {odd[0]!r} has not the shape of a released CPM's; {_ORIGINAL}.")
    tensors = {_NAMES[name]: value.float() for name, value in content.items()}
    for name in ("theta_global", "omega_pos", "omega_alpha"):
        if name in tensors:
            tensors[name] = tensors[name].flatten(0, -2)
    width, features = tensors["g_d.weight"].shape
    mixed = "g_n.weight" in tensors
    tensors.setdefault("theta_global", torch.zeros(0, width))
    try:
        # On the device "meta" nothing is allocated for tensors that do not fit each other.
        with torch.device("meta"):
            prompt = ConditionalPrompt(
                width,
                features // 2,
                tensors["g_n.weight"].shape[0] if mixed else 256,
                length_global=len(tensors["theta_global"]),
                length_condition=len(tensors["omega_pos"]),
                use_global=len(tensors["theta_global"]) > 0,
                mix_patches=mixed,
            )
        prompt.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise UserError(f"{path}: the tensors do not fit together ({reason(error)}); {_ORIGINAL}.") from error
    return prompt
