"""A notebook as something to run: its source, its parameters, and where its results go."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import notebook_record_path
from sd4match_lib.utils.fingerprint import plain


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
