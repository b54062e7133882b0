"""Finding a model: a local folder, the package's own weights, or a hub, with hashes of what was found.

Models move (Stable Diffusion 2-1 left its hub in 2025), so a profile lists several sources and the first
complete one is used; every result records the SHA-256 of the files that were loaded.
"""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sd4match_lib.backbones.loading import read_config
from sd4match_lib.config.names import BACKBONES
from sd4match_lib.config.schema import ModelConfig, VisionConfig
from sd4match_lib.errors import UserError, reason
from sd4match_lib.utils.files import sha256_file, sha256_text, write_json
from sd4match_lib.utils.paths import PACKAGE_PREFIX, resolve_path
from sd4match_lib.utils.reading import read_json, read_tensor_header

VISION_WEIGHTS = "model.safetensors"
VISION_FILES = (VISION_WEIGHTS, "config.json")
_TOKENIZER_FILES = "tokenizer*/*"

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
        for place in (note.parent, note):
            if place.is_symlink():  # caches may come from elsewhere: nothing is written through them
                place.unlink()
        write_json(note, {"path": str(path), "stamp": stamp, "sha256": digest})
    except OSError as error:  # a WriteError is one
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
