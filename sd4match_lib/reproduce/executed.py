"""Executed notebooks as they are kept: what readers want, without the machine they ran on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sd4match_lib.utils.files import atomic_write_text

INJECTED_TAG = "injected-parameters"
_ERROR_MARKER_TAG = "papermill-error-cell-tag"
# What a terminal would have overwritten: everything up to the last carriage return of a line.
_OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n)")


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
