"""Where things lie: the project's root, the package's own files, and the data folder."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE_PREFIX = "package:"
_PACKAGE_DIR = Path(__file__).resolve().parent.parent


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


def resolve_path(path: str | Path, root: Path | None = None) -> Path:
    """Return the absolute path that a profile's entry means.

    Args:
        path: "package:<path inside the package>", an absolute path, "~/...", or a path relative to the
            project's root. A relative path below `data/` follows the environment variable SD4MATCH_DATA when
            it is set.
        root: the project's root; `project_root()` when None.
    """
    text = str(path)
    if text.startswith(PACKAGE_PREFIX):
        return package_path(text.removeprefix(PACKAGE_PREFIX))
    plain = Path(text).expanduser()
    if plain.is_absolute():
        return plain
    data = os.environ.get("SD4MATCH_DATA")
    if data and plain.parts[:1] == ("data",):
        return Path(data).expanduser().absolute().joinpath(*plain.parts[1:])
    return (root or project_root()) / plain
