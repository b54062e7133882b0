"""Finding a model: a local folder, the package's own weights, or a hub, with hashes of what was found.

Models move (Stable Diffusion 2-1 left its hub in 2025), so a profile lists several sources and the first
complete one is used; every result records the SHA-256 of the files that were loaded.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd4match_lib.config.names import BACKBONES
from sd4match_lib.config.schema import ModelConfig, VisionConfig
from sd4match_lib.errors import UserError, WriteError, reason
from sd4match_lib.utils.files import sha256_file, sha256_text, write_json
from sd4match_lib.utils.paths import PACKAGE_PREFIX, resolve_path
from sd4match_lib.utils.reading import read_json, read_tensor_header

VISION_WEIGHTS = "model.safetensors"
VISION_FILES = (VISION_WEIGHTS, "config.json")
_TOKENIZER_FILES = "tokenizer*/*"

_RANGES = {"num_hidden_layers": (1, 256), "layers_per_block": (1, 32), "num_train_timesteps": (1000, 10_000)}
"""Modules are made one by one before their sizes are compared with the weights; steps run to 999."""

_WIDTHS = ("block_out_channels", "hidden_size", "intermediate_size", "vocab_size")
"""What a configuration calls sizes that its weights have too."""

_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
"""What a scheduler's configuration must say: the library would fill in another model's."""

_log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LOCAL_PREFIXES = (".", "/", "~", "models/", "data/", PACKAGE_PREFIX)
"""What a source starts with that is never a hub id, although "models/x" looks like one."""


@dataclass(frozen=True)
class FoundModel:
    """A complete model on the local disk.

    Attributes:
        folder: where it lies.
        source: the entry of the profile's list that led there.
        files: path within the folder -> SHA-256, for every file that loading it reads.
    """

    folder: Path
    source: str
    files: dict[str, str]

    @property
    def sha256(self) -> str:
        """One SHA-256 over all files' hashes: the model's identity."""
        return sha256_text(json.dumps(self.files, sort_keys=True))


def find_diffusion(
    config: ModelConfig, cache_dir: Path | None = None, *, download: bool = True
) -> FoundModel:
    """Find the diffusion model that a profile names.

    Args:
        config: its sources, revision and hash.
        cache_dir: where the hashes of large files are remembered, or None to hash anew.
        download: whether a hub may be asked for what is not on this disk.

    Raises:
        UserError: no source holds a complete model with the stated hash; the message says why for each.
    """
    backbone = BACKBONES.load(config.backbone)
    what = f"{config.backbone.replace('_', ' ')} model"
    return _find(config, backbone.files, backbone.weights_file, what, cache_dir, download)


def find_vision(config: VisionConfig, cache_dir: Path | None = None, *, download: bool = True) -> FoundModel:
    """Find the vision model that a profile names; see `find_diffusion`."""
    return _find(config, VISION_FILES, VISION_WEIGHTS, "vision model", cache_dir, download)


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


def file_hash(path: Path, cache_dir: Path | None) -> str:
    """Return a file's SHA-256, remembered in `cache_dir` for as long as the file's stamps stay.

    Size and modification time can be given to another content; the time of the last change of the file's
    entry (ctime) cannot.
    """
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    if cache_dir is None:
        return sha256_file(path)
    # One small file per model file: two processes never overwrite each other's entries.
    note = cache_dir / "hashes" / f"{sha256_text(str(path.resolve()))[:32]}.json"
    try:
        known = read_json(note)
        if known["stamp"] == stamp and re.fullmatch("[0-9a-f]{64}", known["sha256"]):
            return str(known["sha256"])
    except (UserError, KeyError, TypeError):
        pass  # never hashed, or a damaged note: hash again
    digest = sha256_file(path)
    try:
        write_json(note, {"path": str(path), "stamp": stamp, "sha256": digest})
    except WriteError as error:
        _log.warning("%s The hash of %s is not remembered.", error, path)
    return digest


def _find(
    config: ModelConfig | VisionConfig,
    needed: Sequence[str],
    weights: str,
    what: str,
    cache_dir: Path | None,
    download: bool,
) -> FoundModel:
    reasons = []
    for source in config.sources:
        try:
            folder = _local_folder(source, config.revision, needed, download)
        except _NotHere as error:
            reasons.append(f"{source} ({error})")
            continue
        names = [name for entry in needed for name in entry.split("|")]
        paths = [folder / name for name in names] + sorted(folder.glob(_TOKENIZER_FILES))
        files = {
            path.relative_to(folder).as_posix(): file_hash(path, cache_dir)
            for path in paths
            if path.is_file()
        }
        if config.sha256 in (None, files[weights]):
            return FoundModel(folder, source, files)
        reasons.append(
            f"{source} ({weights} has sha256 {files[weights]}, but the profile's sha256 says {config.sha256})"
        )
    files_needed = ", ".join(needed).replace("|", " or ")
    raise UserError(
        f"the {what} was not found; tried {'; '.join(reasons)}; put {files_needed} into one of these "
        "folders, or name another folder or hub id first in the profile's `sources`."
    )


class _NotHere(Exception):
    """Why one source cannot be used."""


def _local_folder(source: str, revision: str | None, needed: Sequence[str], download: bool) -> Path:
    folder = resolve_path(source)
    if folder.is_dir():
        missing = _missing(folder, needed)
        if missing:
            raise _NotHere(f"{folder} lacks {', '.join(missing)}")
        _check_files(folder, needed)
        return folder
    if not is_hub_id(source):
        raise _NotHere(f"there is no folder {folder}")
    return _hub_folder(source, revision, needed, download)


def is_hub_id(source: str) -> bool:
    """Return whether a source that is no folder here would be looked for on a hub."""
    return bool(_HUB_ID.fullmatch(source)) and not source.startswith(_LOCAL_PREFIXES)


def _hub_folder(repo: str, revision: str | None, needed: Sequence[str], download: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*(name for entry in needed for name in entry.split("|")), _TOKENIZER_FILES]
    # What an earlier run fetched comes first: it needs no network and does not change under a series of runs.
    for local_only in (True, False) if download else (True,):
        try:
            folder = Path(
                snapshot_download(
                    repo, revision=revision, allow_patterns=patterns, local_files_only=local_only
                )
            )
        except Exception as error:  # the client raises its own, httpx's and the system's errors
            said = reason(error)
            continue
        missing = _missing(folder, needed)
        if not missing:
            _check_files(folder, needed)
            return folder
        said = f"it lacks {', '.join(missing)}"
    raise _NotHere(f"hub: {said}")


def _check_files(folder: Path, needed: Sequence[str]) -> None:
    """Open the header of every file of weights, and every configuration, before anything is loaded."""
    try:
        # "a|b" is one of the two; which are here, is known.
        names = [name for entry in needed for name in entry.split("|") if (folder / name).is_file()]
        for name in names:
            if name.endswith(".safetensors"):
                read_tensor_header(folder / name, fix="copy or fetch the model again")
            elif name.endswith("config.json"):
                read_config(folder / name)
    except UserError as error:
        raise _NotHere(str(error)) from error


def _missing(folder: Path, needed: Sequence[str]) -> list[str]:
    return [
        " or ".join(names)
        for names in (entry.split("|") for entry in needed)
        if not any((folder / name).is_file() for name in names)
    ]
