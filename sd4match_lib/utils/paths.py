"""Where things lie: the project's root, the package's own files, the data folder; and names from outside."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from sd4match_lib.errors import DataError, UserError

PACKAGE_PREFIX = "package:"
_PACKAGE_DIR = Path(__file__).resolve().parent.parent
_LONGEST_NAME = 255
"""Bytes of one name on the usual file systems."""


def project_root() -> Path:
    """Return the folder that relative paths of a profile start from.

    The nearest folder above the working directory that holds this package's sources, so that a notebook finds
    the same files from `notebooks/` and from the root; else the checkout that the package was installed from;
    else the working directory.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, _PACKAGE_DIR.parent):
        if (folder / "pyproject.toml").is_file() and (folder / _PACKAGE_DIR.name).is_dir():
            return folder
    return here


def package_path(relative: str) -> Path:
    """Return the path of a file that the package ships, e.g. `package_path("config/mini.toml")`."""
    return _PACKAGE_DIR / relative


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return the path that a user means, with "~" in place of the home folder.

    Raises:
        UserError: no file can have this name, or the home folder is not known.
    """
    text = os.fspath(path)
    wrong = _what_is_wrong(text)
    if wrong:
        raise UserError(f"{text!r} is no path: {wrong}.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{text}: the home folder of this user is not known; write the whole path."
        ) from error


def inside(root: Path, name: Any, where: str) -> Path:
    """Return the path of a file that is named in another file, and must lie below a folder.

    Only the name is judged: folders that the user has linked into `root` are followed.

    Args:
        root: the folder.
        name: what was read: a path relative to it, with slashes, or a whole path below it.
        where: file and field, for the message.

    Raises:
        DataError: the name is no text, is empty or too long, leads out of `root`, or holds characters that
            names do not have.
    """
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: {name!r} is not the name of a file; correct it.")
    wrong = _what_is_wrong(name)
    if wrong:
        raise DataError(f"{where}: {name!r} is no file name: {wrong}; correct it.")
    path = PurePosixPath(name)
    elsewhere = path.is_absolute() and not path.is_relative_to(PurePosixPath(root.absolute().as_posix()))
    leads_out = elsewhere or ".." in path.parts or "\\" in name or Path(name).drive
    if leads_out or not path.parts:
        raise DataError(f"{where}: {name!r} leads out of {root}; name a file below it.")
    return root / path


def resolve_path(path: str | Path) -> Path:
    """Return the absolute path that a profile's entry means.

    Args:
        path: "package:<path inside the package>", an absolute path, "~/...", or a path relative to the
            project's root. A relative path below `data/` follows the environment variable SD4MATCH_DATA when
            it is set.

    Raises:
        UserError: it is no path, or its home folder is not known.
    """
    text = str(path)
    if text.startswith(PACKAGE_PREFIX):
        return inside(package_path(""), text.removeprefix(PACKAGE_PREFIX), f"the profile's {text!r}")
    plain = user_path(text)
    if plain.is_absolute():
        return plain
    data = os.environ.get("SD4MATCH_DATA")
    if data and plain.parts[:1] == ("data",):
        return user_path(data).absolute().joinpath(*plain.parts[1:])
    return project_root() / plain


def _what_is_wrong(name: str) -> str:
    """Why no file can have this name; empty when one can."""
    if "\0" in name:
        return "it holds a NUL character"
    try:
        parts = [len(part.encode("utf-8")) for part in name.split("/")]
    except UnicodeEncodeError:
        # Names of files that are not UTF-8 reach Python as such characters too, and can be neither shown nor
        # written into a record.
        return "it is not valid Unicode"
    longest = max(parts)
    return (
        f"a part of it is {longest} bytes long, and file systems take {_LONGEST_NAME}"
        if (longest > _LONGEST_NAME)
        else ""
    )
