"""A notebook as something to run: source, parameters, where its results go, and the copy that is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError, reason
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import notebook_record_path
from sd4match_lib.utils.files import atomic_write_text
from sd4match_lib.utils.fingerprint import plain
from sd4match_lib.utils.reading import literal_or_text, read_json

_RESTORE = "restore it, or open and save it in JupyterLab"

INJECTED_TAG = "injected-parameters"
_ERROR_MARKER_TAG = "papermill-error-cell-tag"


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
    """Read a notebook for a profile, and check parameters that differ from what the file says.

    Raises:
        UserError: the file is no notebook of format 4, or has no parameter of a name in `overrides`.
    """
    import papermill

    _check_source(source)
    try:
        known = papermill.inspect_notebook(literal_path(source))
    except Exception as error:  # papermill and nbformat raise nearly anything on odd notebooks
        raise UserError(f"{source} cannot be opened ({reason(error)}); {_RESTORE}.") from error
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        names = ", ".join(known) or "none"
        raise UserError(f"{source.name} has no parameter {unknown[0]!r}; it has: {names}.")
    defaults = {name: literal_or_text(entry["default"]) for name, entry in known.items()}
    changed = plain(overrides)
    return Notebook(source, profile, {**defaults, **changed}, changed)


def literal_path(path: Path) -> str:
    """Return a path as papermill takes it, which fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _check_source(source: Path) -> None:
    content = read_json(source, fix=_RESTORE)
    if not isinstance(content, dict) or content.get("nbformat") != 4:
        raise UserError(f"{source} is not a notebook of format 4; {_RESTORE}.")
    import nbformat

    try:
        nbformat.validate(content)
    except Exception as error:  # its own ValidationError, and whatever odd content makes it stumble over
        raise UserError(f"{source} is not a whole notebook ({reason(error)}); {_RESTORE}.") from error


def clean_notebook(path: Path, root: Path) -> Any:
    """Read an executed notebook without timings, widget state, random ids and paths of this machine."""
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
        if "outputs" in cell:
            cell.outputs = _join_streams(cell.outputs)
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


def _join_streams(outputs: list[Any]) -> list[Any]:
    """Join a cell's texts of each stream at the first one's place, and put the error stream behind the other.

    They arrive in pieces of any size, and the two streams in any order.
    """
    joined: list[Any] = []
    streams: dict[str, Any] = {}
    for output in outputs:
        if output.output_type == "stream" and output.name in streams:
            streams[output.name].text += output.text
        else:
            joined.append(output)
            if output.output_type == "stream":
                streams[output.name] = output
    if {"stdout", "stderr"} <= set(streams):
        first, second = sorted(joined.index(streams[name]) for name in ("stdout", "stderr"))
        joined[first], joined[second] = streams["stdout"], streams["stderr"]
    return joined


def _as_overwritten(text: str) -> str:
    """What a terminal shows in the end: of each line what stands behind its last carriage return."""
    # By hand: the regular expression for it takes quadratic time on a long line.
    lines = text.split("\n")
    for place, line in enumerate(lines):
        end = "\r" if line.endswith("\r") and place < len(lines) - 1 else ""
        lines[place] = line[: len(line) - len(end)].rpartition("\r")[2] + end
    return "\n".join(lines)


def _clean_output(output: Any, root: str) -> None:
    def relative(text: str) -> str:
        return text.replace(f"{root}/", "").replace(root, ".")

    if "text" in output:
        output.text = relative(_as_overwritten(output.text))
    for mime, data in output.get("data", {}).items():
        # Pictures are base64 and cannot hold a path.
        if isinstance(data, str) and not mime.startswith("image/p"):
            output.data[mime] = relative(data)
