"""Loading a part of a model, and refusing what is not whole, not finite, or of another kind."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sd4match_lib.errors import UserError, reason
from sd4match_lib.utils.reading import read_json, read_tensor_header

_RANGES = {"num_hidden_layers": (1, 256), "layers_per_block": (1, 32), "num_train_timesteps": (1000, 10_000)}
"""Modules are made one by one before their sizes are compared with the weights; steps run to 999."""

_WIDTHS = ("block_out_channels", "hidden_size", "intermediate_size", "vocab_size")
"""What a configuration calls sizes that its weights have too."""

_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
"""What a scheduler's configuration must say: the library would fill in another model's."""

_log = logging.getLogger(__name__)


def load_part(kind: Any, folder: Path | str, part: str, **options: Any) -> Any:
    """Load a part of a model in diffusers layout with the class that knows it.

    Args:
        kind: the class, with `from_pretrained`.
        folder: the model's folder.
        part: the part's folder below it, such as "unet".
        options: what else `from_pretrained` is told, such as `dtype`.

    Raises:
        UserError: the part is missing, unreadable or of another kind, or its weights are not whole; see
            `check_loaded`.
    """
    where = Path(folder) / part
    has_weights = hasattr(kind, "load_state_dict")
    if has_weights:
        check_kind(where / "config.json", _names_of(kind))
        check_widths(where)
        options |= {"use_safetensors": True, "output_loading_info": True}
    try:
        loaded = kind.from_pretrained(folder, subfolder=part, local_files_only=True, **options)
    except Exception as error:  # the libraries raise anything from OSError to SafetensorError
        raise UserError(
            f"{where} cannot be loaded ({reason(error)}); copy or fetch the model again."
        ) from error
    if not has_weights:
        return loaded
    model, report = loaded
    check_loaded(model, report, where)
    return model


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
    for name, (least, most) in _RANGES.items():
        values = config.get(name, least)
        for value in values if isinstance(values, list) else [values]:
            if type(value) is not int or not least <= value <= most:
                raise UserError(
                    f"{path}: {name!r} is {values!r}, not whole numbers from {least} to {most}; {fix}."
                )
    if path.name == "scheduler_config.json":
        lacking = [name for name in _NOISE if name not in config]
        if lacking:
            raise UserError(f"{path}: {lacking[0]!r} is missing, so the model's noise is not known; {fix}.")
    return config


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

    Args:
        path: the configuration.
        kinds: which may be here.

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


def check_widths(folder: Path) -> None:
    """Make sure, before a model is made, that its configuration asks for no sizes that its weights lack.

    Args:
        folder: with `config.json` and the weights; weights in several files are left to the loader.

    Raises:
        UserError: it does.
    """
    for name in ("model.safetensors", "diffusion_pytorch_model.safetensors"):
        if not (folder / name).is_file():
            continue
        try:
            tensors, _ = read_tensor_header(folder / name, fix="copy or fetch the model again")
        except UserError as error:
            raise UserError(f"{folder} cannot be loaded: {error}") from error
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


def check_loaded(model: Any, report: Mapping[str, Any], where: Path) -> None:
    """Make sure that every weight of a loaded model came from its file, and is a number.

    Args:
        model: the module.
        report: the library's own account of loading it (`output_loading_info`).
        where: its folder, for the message.

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
