"""Writing files so that nobody ever reads half of one, and hashing what was read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from sd4match_lib.errors import UserError


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Replace `path` by `data` in one step, making its folder when missing.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the name: a reader
    or a crash sees the old content or the new one, never a part.

    Args:
        path: the file to write.
        data: its whole content.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; results are for everybody that the umask lets in.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def atomic_write_text(path: Path | str, data: str) -> None:
    """Replace `path` by the UTF-8 text `data` in one step (see `atomic_write_bytes`)."""
    atomic_write_bytes(path, data.encode("utf-8"))


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented, key-sorted JSON, atomically."""
    atomic_write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore or delete it.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
