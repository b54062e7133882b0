"""Writing files so that nobody ever reads half of one, and hashing what was read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import threading
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from sd4match_lib.errors import DataError, UserError, WriteError, reason, storage_sentence

_TEMPORARY = ".sd4match-"
_SWEEPING = threading.Lock()
_SWEPT: set[str] = set()
"""Folders that this process has cleared of dead writers' temporary files."""


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Replace `path` by `data` in one step, making its folder when missing.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the name: a reader
    or a crash sees the old content or the new one, never a part. A link stays one: the file that it leads to
    is replaced. Pipes and devices such as /dev/stdout are written to as they are.

    Args:
        path: the file to write.
        data: its whole content.

    Raises:
        WriteError: the disk is full, the folder cannot be written, or the path is a folder.
    """
    try:
        if _is_stream(path):
            with _open_stream(path) as stream:
                stream.write(data)
            return
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.is_symlink():  # its end was not found: it leads back to itself
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        _replace(target, data)
    except (OSError, ValueError) as error:
        failed = error if isinstance(error, OSError) else OSError(reason(error))
        raise WriteError(storage_sentence(failed, path)) from error


def atomic_write_text(path: Path | str, data: str) -> None:
    """Replace `path` by the UTF-8 text `data` in one step (see `atomic_write_bytes`)."""
    atomic_write_bytes(path, data.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file where it lies, making its folder: for files that a list with their hashes vouches for.

    Raises:
        WriteError: see `atomic_write_bytes`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)
    except OSError as error:
        raise WriteError(storage_sentence(error, path)) from error


def check_output(output: Path, *inputs: Path) -> None:
    """Make sure, before any work, that a file can be written and is none of those that are read.

    Args:
        output: the file to write.
        inputs: the files that are read for it.

    Raises:
        UserError: it is one of them, or a folder.
        WriteError: its folder cannot be written.
    """
    for path in inputs:
        if output.exists() and path.exists() and os.path.samefile(output, path):
            raise UserError(f"{output} would be overwritten, but {path} is read; name another file to write.")
    if _is_stream(output):
        return
    if output.is_dir():
        raise UserError(f"{output} is a folder; name a file to write.")
    folder = Path(os.path.realpath(output)).parent
    folder = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise WriteError(f"{output} cannot be written: {folder} is not a folder of ours; name another place.")


def refuse_links(root: Path, folder: Path) -> None:
    """Make sure that nothing in a folder is a link, nor anything on the way to it from `root`, itself apart.

    Results may come from elsewhere, and what links in them lead to is not theirs to write.

    Raises:
        UserError: there is a link.
    """
    way = [folder, *folder.parents][: len(folder.relative_to(root).parts)]
    held = (Path(at, name) for at, folders, files in os.walk(folder) for name in (*folders, *files))
    for path in (*way, *held):
        if path.is_symlink():
            raise UserError(f"{path} is a link, through which results would be written; delete it.")


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder among the system's temporary ones, whose `cleanup` deletes it.

    That of a process which did not live to clean up is deleted by the next one that asks for a folder.
    """
    parent = Path(os.path.realpath(tempfile.gettempdir()))
    _remove_leftovers(parent)
    return tempfile.TemporaryDirectory(prefix=_own_prefix(), suffix=".tmp", dir=parent)


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits.

    Raises:
        DataError: it is a pipe or a device, which may have no end.
    """
    if stat.S_IFMT(os.stat(path).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{path} is a pipe or a device, not a file; fetch or write it again.")
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented, key-sorted JSON, atomically."""
    atomic_write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _is_stream(path: Path | str) -> bool:
    """Whether a path is no file that could be replaced: a pipe, a device, an open descriptor."""
    # A shell that sent its output to a file still holds that file: replacing it would lose what comes after.
    if str(path).startswith(("/dev/", "/proc/")):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _open_stream(path: Path | str) -> BinaryIO:
    """Open a pipe or device; of this process's own descriptors the one that is open, where it is."""
    found = re.fullmatch(r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/(\d{1,9})", str(path))
    if found is None:
        # A pipe that nobody reads would be waited for without end; one that somebody reads may be slow.
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(handle, True)
        return os.fdopen(handle, "wb")
    number = {"stdin": 0, "stdout": 1, "stderr": 2}[found[1]] if found[1] else int(found[2])
    sys.stdout.flush()
    sys.stderr.flush()
    return os.fdopen(os.dup(number), "wb")


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _replace(target: Path, data: bytes) -> None:
    # `tempfile` makes private files; results are for everybody that the umask lets in.
    temporary = target.with_name(f"{_own_prefix()}{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_leftovers(folder: Path) -> None:
    """Delete what dead processes of this machine left half done, once per folder and process."""
    with _SWEEPING:
        if str(folder) in _SWEPT:
            return
        _SWEPT.add(str(folder))
        for path in folder.glob(f"{_TEMPORARY}{_host()}-*.tmp"):
            writer = path.name.removeprefix(f"{_TEMPORARY}{_host()}-").partition("-")[0]
            if not writer.isdecimal() or _lives(int(writer)):
                continue
            with suppress(OSError):  # another user's, where all share the folder
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _own_prefix() -> str:
    """What the names of this process's temporary files and folders begin with."""
    return f"{_TEMPORARY}{_host()}-{os.getpid()}-"


def _lives(process: int) -> bool:
    if process == os.getpid():
        return False  # this process has not written here yet: an earlier one had its number
    import psutil

    return bool(psutil.pid_exists(process))


@lru_cache(maxsize=1)
def _host() -> str:
    """A mark of this machine; containers that share a name have process numbers of their own."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return sha256_text(f"{platform.node()} {space}")[:8]
