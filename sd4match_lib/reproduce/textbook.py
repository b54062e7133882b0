"""The notebooks that come with the package, and a folder of one's own to work in."""

import os
from importlib import metadata
from pathlib import Path

from sd4match_lib.errors import UserError
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.paths import project_root


def notebook_sources() -> list[Path]:
    """Return the notebooks as they were written: a checkout's own, or those that were installed.

    Raises:
        UserError: there are none.
    """
    own = sorted((project_root() / "notebooks").glob("[0-9]*.ipynb"))
    if own:
        return own
    try:
        files = metadata.files("sd4match") or []
    except metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.suffix == ".ipynb"]
    there = sorted((path for path in found if path.is_file()), key=lambda path: path.name)
    if not there:
        raise UserError("the notebooks are not here; install the wheel, or work in the project's checkout.")
    return there


def write_notebooks(folder: Path | str) -> list[Path]:
    """Write the notebooks to a folder; nothing that is there is overwritten.

    Returns:
        The files written, in the order to be read.

    Raises:
        UserError: a notebook of one of the names is already there, or there are no notebooks to write.
    """
    sources = notebook_sources()
    targets = [Path(folder) / source.name for source in sources]
    for target in targets:
        if os.path.lexists(target):
            raise UserError(f"{target} is already there; name another folder, or move it away.")
    for source, target in zip(sources, targets, strict=True):
        atomic_write_bytes(target, source.read_bytes())
    return targets
