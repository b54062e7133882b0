"""A notebook as something to run: source, parameters, where its results go, and the copy that is kept."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import notebook_record_path
from sd4match_lib.utils.files import atomic_write_text
from sd4match_lib.utils.fingerprint import plain

INJECTED_TAG = "injected-parameters"
_ERROR_MARKER_TAG = "papermill-error-cell-tag"
# What a terminal would have overwritten: everything up to the last carriage return of a line.
_OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n)")


@dataclass(frozen=True)
class Notebook:
    """A notebook's source and how a profile runs it.

    Attributes:
        source: the .ipynb file.
        profile: the profile; its results take the executed copy and the record.
        parameters: every parameter with the value that it will have.
        overrides: those that differ from what the file says.
    """

    source: Path
    profile: Profile
    parameters: dict[str, Any]
    overrides: dict[str, Any]

    @property
    def stem(self) -> str:
        """The file's name without its extension."""
        return self.source.stem

    @property
    def executed_path(self) -> Path:
        """Where the executed copy lies once it is complete."""
        return self.profile.results_path / "notebooks" / self.source.name

    @property
    def partial_path(self) -> Path:
        """Where the copy is written while it runs, and stays when it fails."""
        return self.executed_path.with_suffix(".partial.ipynb")

    @property
    def record_path(self) -> Path:
        """Where its record lies."""
        return notebook_record_path(self.profile.results_path, self.stem)

    def read_record(self) -> RunRecord | None:
        """Return what the last run recorded, or None."""
        return RunRecord.read(self.record_path) if self.record_path.is_file() else None


def open_notebook(source: Path, profile: Profile, overrides: Mapping[str, Any]) -> Notebook:
    """Check a notebook's parameters.

    Args:
        source: the .ipynb file.
        profile: the profile to run it with.
        overrides: parameters that differ from what the file says, as JSON-able values.

    Raises:
        UserError: the notebook has no parameter of a name in `overrides`.
    """
    import papermill

    known = papermill.inspect_notebook(str(source))
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        names = ", ".join(known) or "none"
        raise UserError(f"{source.name} has no parameter {unknown[0]!r}; it has: {names}.")
    defaults = {name: _literal(entry["default"]) for name, entry in known.items()}
    changed = plain(overrides)
    return Notebook(source, profile, {**defaults, **changed}, changed)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def clean_notebook(path: Path, root: Path) -> Any:
    """Read an executed notebook without timings, widget state, random ids and absolute paths.

    Args:
        path: what papermill wrote.
        root: the project's root; paths below it become relative.

    Returns:
        The notebook node.
    """
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if INJECTED_TAG in cell.metadata.get("tags", []):
            cell.id = INJECTED_TAG
        for output in cell.get("outputs", []):
            _clean_output(output, str(root))
    return notebook


def save_notebook(notebook: Any, path: Path) -> None:
    """Write a notebook node atomically."""
    import nbformat

    atomic_write_text(path, nbformat.writes(notebook) + "\n")


def failure_in(path: Path) -> str:
    """Return the id of the cell that raised in an executed notebook, or "" when none did."""
    import nbformat

    for cell in nbformat.read(path, as_version=4).cells:
        if _ERROR_MARKER_TAG in cell.metadata.get("tags", []):
            continue
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return str(cell.get("id", ""))
    return ""


def _clean_output(output: Any, root: str) -> None:
    def relative(text: str) -> str:
        return text.replace(f"{root}/", "").replace(root, ".")

    if "text" in output:
        output.text = relative(_OVERWRITTEN.sub("", output.text))
    for mime, data in output.get("data", {}).items():
        # Pictures are base64 and cannot hold a path.
        if isinstance(data, str) and not mime.startswith("image/p"):
            output.data[mime] = relative(data)
