"""Loading a part of a model, and refusing what is not whole, not finite, or of another kind."""

import gc
import logging
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sd4match_lib.errors import UserError, reason
from sd4match_lib.utils.reading import TensorInfo, read_json, read_tensor_header

_LAYERS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "layers_per_block")
_COUNTS = dict.fromkeys((*_LAYERS, "transformer_layers_per_block"), (1, 256))
_COUNTS["num_train_timesteps"] = (1000, 10_000)
"""Modules are made one by one before their sizes are compared with the weights; steps run to 999."""

_LARGEST = 2**20
"""Of any whole number in a configuration; vocabularies have some 250,000 words."""

_WIDTHS = ("block_out_channels", "hidden_size", "intermediate_size", "vocab_size")
"""What a configuration calls sizes that its weights have too."""

_KINDS = ("F16", "BF16", "F32", "F64")
"""What weights are: whole or complex numbers would be cut down in silence, quantised ones not scaled."""

_PLACES = "position_ids"
"""What old text models keep beside their weights, in whole numbers."""

_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
"""What a scheduler's configuration must say: the library would fill in another model's."""

_REPEATED = re.compile(r"(?:^|[._])(?:layers?|blocks?)\.\d+\.")
"""What a model's repeated parts are called; poolers and heads that nobody reads may be left over."""

_log = logging.getLogger(__name__)


def load_part(kind: Any, folder: Path | str, part: str, **options: Any) -> Any:
    """Load a part of a model in diffusers layout with the class that knows it.

    Raises:
        UserError: the part is missing, unreadable or of another kind, or its weights are not whole; see
            `check_loaded`.
    """
    where = Path(folder) / part
    has_weights = hasattr(kind, "load_state_dict")
    if has_weights:
        check_kind(where / "config.json", _names_of(kind))
        check_weights(where)
        options |= {"use_safetensors": True, "output_loading_info": True}
    try:
        loaded = kind.from_pretrained(folder, subfolder=part, local_files_only=True, **options)
    except Exception as error:  # the libraries raise anything from OSError to SafetensorError
        raise UserError(
            f"{where} cannot be loaded ({reason(error)}); copy or fetch the model again."
        ) from error
    if not has_weights:
        if hasattr(loaded, "pad_token_id"):
            _check_tokenizer(loaded, where)
        return loaded
    model, report = loaded
    check_loaded(model, report, where)
    return model


def _check_tokenizer(tokenizer: Any, where: Path) -> None:
    path = where / "tokenizer_config.json"
    if "model_max_length" not in read_json(path):
        raise UserError(f"{path}: 'model_max_length' is missing, so that it is not whole; fetch it again.")
    for name in ("pad_token_id", "eos_token_id"):
        value = getattr(tokenizer, name)
        if value is None or value >= tokenizer.vocab_size:
            token = name.removesuffix("_id")
            raise UserError(f"{path}: {token!r} is no word of the vocabulary beside it; fetch both again.")


def _names_of(kind: Any) -> tuple[str, ...]:
    """What a configuration calls a class: diffusers by its own name, transformers by its family's."""
    family = getattr(getattr(kind, "config_class", None), "model_type", "")
    # "clip_text_model" may also be the text half of a whole "clip".
    return (family, family.partition("_")[0]) if family else (kind.__name__,)


def read_config(path: Path) -> dict[str, Any]:
    """Read a model's configuration.

    Raises:
        UserError: it is missing or no table, asks for code that lies beside it (`auto_map`), or for sizes
            that no model has.
    """
    fix = "copy or fetch the model again"
    config = read_json(path, fix=fix)
    if not isinstance(config, dict):
        raise UserError(f"{path}: this is no model's configuration (a JSON object); {fix}.")
    if "auto_map" in config:
        raise UserError(
            f"{path}: 'auto_map' asks for code of the model's own, which is never run; remove it."
        )
    for name, value in config.items():
        if name == "model_max_length":
            continue  # tokenizers write 1e30 where they know no limit; it sizes nothing
        least, most = _COUNTS.get(name, (-_LARGEST, _LARGEST))
        numbers = list(_whole_numbers(value))
        # Of a layer's or a step's number nothing but whole numbers is one.
        wrong = name in _COUNTS and value is not None and not numbers
        if wrong or not all(least <= number <= most for number in numbers):
            raise UserError(
                f"{path}: {name!r} is {value!r}, not whole numbers from {least} to {most}; {fix}."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path}: {name!r} is {value}, which is no number; {fix}.")
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if type(width) is int and type(heads) is int and (heads < 1 or width % heads):
        raise UserError(
            f"{path}: 'hidden_size' {width} is no multiple of 'num_attention_heads' {heads}; {fix}."
        )
    scale = config.get("scaling_factor", 1.0)
    if type(scale) not in (int, float) or not 0 < scale <= _LARGEST:
        raise UserError(f"{path}: 'scaling_factor' is {scale!r}, not a number above 0; {fix}.")
    if path.name == "scheduler_config.json":
        lacking = [name for name in _NOISE if name not in config]
        if lacking:
            raise UserError(f"{path}: {lacking[0]!r} is missing, so the model's noise is not known; {fix}.")
        betas = config.get("trained_betas")
        if betas is not None and not (
            isinstance(betas, list) and len(betas) == config["num_train_timesteps"]
        ):
            raise UserError(f"{path}: 'trained_betas' are not one number for each step; {fix}.")
    return config


def _whole_numbers(value: Any) -> Iterator[int]:
    """All of them in a value, however deep, and truth values not among them."""
    if type(value) is int:
        yield value
    for inner in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from _whole_numbers(inner)


def config_number(path: Path, name: str) -> int:
    """Return one size out of a model's configuration.

    Raises:
        UserError: see `read_config`; or it is not there.
    """
    value = read_config(path).get(name)
    if type(value) is not int or not 1 <= value <= 2**20:
        raise UserError(f"{path}: {name!r} is {value!r}, not a whole number from 1; fetch the model again.")
    return value


def config_levels(path: Path) -> int:
    """Return how many levels of resolution a UNet or VAE has, by its configuration.

    Raises:
        UserError: see `read_config`; or it does not say.
    """
    channels = read_config(path).get("block_out_channels")
    if not isinstance(channels, list) or not 1 <= len(channels) <= 16:
        raise UserError(f"{path}: 'block_out_channels' is {channels!r}, not a list of sizes; fetch it again.")
    return len(channels)


def check_kind(path: Path, kinds: Sequence[str]) -> str:
    """Return which architecture a configuration is of.

    Raises:
        UserError: it is another one.
    """
    try:
        config = read_config(path)
    except UserError as error:
        raise UserError(f"{path.parent} cannot be loaded: {error}") from error
    kind = config.get("model_type", config.get("_class_name"))  # transformers' layout, diffusers'
    if kind not in kinds:
        raise UserError(f"{path.parent} holds a {kind!r} model; it must be {' or '.join(map(repr, kinds))}.")
    return str(kind)


def check_weights(folder: Path) -> None:
    """Make sure, before a model is made, that its weights are real numbers of the sizes that it asks for.

    Args:
        folder: with `config.json` and the weights; of weights in several files only the kind is looked at.

    Raises:
        UserError: weights are whole or complex numbers, or the configuration asks for sizes that they lack.
    """
    for part in sorted(folder.glob("*-of-*.safetensors")):
        _check_kinds(part, _read_header(part))
    for name in ("model.safetensors", "diffusion_pytorch_model.safetensors"):
        if not (folder / name).is_file():
            continue
        tensors = _read_header(folder / name)
        _check_kinds(folder / name, tensors)
        sides = {side for tensor in tensors.values() for side in tensor.shape}
        config = read_config(folder / "config.json")
        for key in _WIDTHS:
            found = config.get(key, [])
            for width in found if isinstance(found, list) else [found]:
                if width not in sides:
                    raise UserError(
                        f"{folder / 'config.json'}: {key!r} is {found!r}, but no tensor of {name} is; "
                        "fetch both again."
                    )


def _read_header(path: Path) -> dict[str, TensorInfo]:
    try:
        return read_tensor_header(path, fix="copy or fetch the model again")[0]
    except UserError as error:
        raise UserError(f"{path.parent} cannot be loaded: {error}") from error


def _check_kinds(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in _KINDS and not name.endswith(_PLACES):
            raise UserError(
                f"{path}: the tensor {name!r} is of type {tensor.dtype}; weights are {', '.join(_KINDS)}, "
                "neither quantised nor complex: fetch the model again."
            )


def check_loaded(model: Any, report: Mapping[str, Any], where: Path) -> None:
    """Make sure, by the library's own report, that all of a model came from its file, and is numbers.

    Raises:
        UserError: a tensor is missing, so that it holds random numbers, is of another shape, or not finite.
    """
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        raise UserError(
            f"{where} lacks {len(missing)} of the model's tensors, such as {missing[0]!r}; fetch it again."
        )
    wrong = sorted(
        str(item[0] if isinstance(item, tuple | list) else item)
        for item in report.get("mismatched_keys") or ()
    )
    if wrong:
        raise UserError(f"{where}: the tensor {wrong[0]!r} is of another shape; fetch the model again.")
    surplus = sorted(name for name in report.get("unexpected_keys") or () if _REPEATED.search(name))
    if surplus:
        raise UserError(
            f"{where}: the model has no place for the tensor {surplus[0]!r}, so its configuration is another "
            "model's; fetch both again."
        )
    import torch  # here, so that looking for models stays quick

    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            # The lowest and the highest tell, in one pass and without a copy: NaN is passed on to both.
            low, high = torch.aminmax(tensor)
            if not (math.isfinite(low) and math.isfinite(high)):
                raise UserError(
                    f"{where}: the tensor {name!r} holds numbers that are not finite; fetch it again."
                )


@contextmanager
def importing(library: str) -> Iterator[None]:
    """Keep Python's garbage collector away from what a large library makes when it is imported.

    It would look through it again and again meanwhile, later, and when the program ends, and find nothing: a
    third of the processor time of matching two pictures.
    """
    if library in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep the model libraries from drawing a progress bar for every part that they load."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    logs = (diffusers_logging, transformers_logging)
    shown = [log for log in logs if log.is_progress_bar_enabled()]
    levels = [log.get_verbosity() for log in logs]
    for log in shown:
        log.disable_progress_bar()
    # What they would report in many lines, `check_loaded` says in one.
    for log in logs:
        log.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)
