"""The record itself: what every run says about how its numbers came to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sd4match_lib.config.parse import parse_dataclass
from sd4match_lib.errors import UserError
from sd4match_lib.runs import machine
from sd4match_lib.utils.files import sha256_file, write_json
from sd4match_lib.utils.fingerprint import plain
from sd4match_lib.utils.paths import inside
from sd4match_lib.utils.reading import read_json

Status = Literal["running", "complete", "failed"]


@dataclass
class RunRecord:
    """What is written as `run.json` (and, for a notebook, as `notebooks/<stem>.json`).

    Attributes:
        run_id: "<name>-<first 8 digits of the hash of kind, config, inputs and seed>".
        name: what the run is about, for people.
        kind: what sort of run, e.g. "evaluate", "train", "notebook".
        profile: the profile's name.
        config: every setting that the result depends on.
        inputs: name -> SHA-256 of the weights and data read.
        seed: what random streams started from.
        status: a killed run stays "running".
        started: when this attempt began (UTC, ISO 8601).
        wall_s: how long this attempt took, in seconds.
        peak_memory_mb: the process's peak so far, {"host": .., "cuda": ..}.
        device: where the model ran.
        versions: of Python and the libraries.
        commit: {"id": .., "dirty": ..}, empty outside a checkout.
        outputs: file, relative to the record's folder -> SHA-256.
        metrics: the numbers that the run was made for.
        error: "<type>: <message>" of what stopped a failed run.
    """

    run_id: str
    name: str
    kind: str
    profile: str
    config: dict[str, Any]
    inputs: dict[str, Any]
    seed: int
    status: Status = "running"
    started: str = ""
    wall_s: float = field(default=0.0, metadata={"max": 1e9})
    peak_memory_mb: dict[str, float] = field(default_factory=dict)
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read a record.

        Raises:
            UserError: the file is missing, no JSON, or no record.
        """
        again = "delete it and run again"
        table = read_json(path, fix=again)
        try:
            if not isinstance(table, dict):
                raise UserError(f"it holds a {type(table).__name__}.")
            record = parse_dataclass(cls, table, where="the record")
            for name in record.outputs:
                inside(path.parent, name, "outputs")
        except UserError as error:
            raise UserError(f"{path} is not a run record ({str(error).rstrip('.')}); {again}.") from error
        return record

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        write_json(path, plain(self))

    def begin(self, device: str) -> None:
        """Set everything that is known when an attempt starts."""
        self.status, self.error = "running", None
        self.started = utc()
        self.wall_s, self.outputs, self.metrics = 0.0, {}, {}
        self.device = machine.describe_device(device)
        self.versions, self.commit = machine.versions(), machine.git_commit()

    def setting(self, name: str) -> Any:
        """Return one setting of the configuration.

        Raises:
            UserError: the record has none of this name.
        """
        return self._of(self.config, "config", name)

    def input_hash(self, name: str) -> Any:
        """Return one of the inputs' hashes.

        Raises:
            UserError: the record has none of this name.
        """
        return self._of(self.inputs, "inputs", name)

    def number(self, name: str) -> float:
        """Return one of the numbers that the run was made for.

        Raises:
            UserError: the record has none of this name.
        """
        value = self._of(self.metrics, "metrics", name)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise UserError(
                f"the record of run {self.run_id}: metrics.{name} is {value!r}; delete the run and ask again."
            )
        return float(value)

    def _of(self, values: Mapping[str, Any], field: str, name: str) -> Any:
        if name not in values:
            raise UserError(
                f"the record of run {self.run_id} lacks {field}.{name}; delete the run and ask for it again."
            )
        return values[name]

    def missing_outputs(self, folder: Path) -> list[str]:
        """Return the outputs that are not in `folder` as they were recorded, sorted."""
        return sorted(name for name, digest in self.outputs.items() if not _matches(folder / name, digest))


def utc(seconds: float | None = None) -> str:
    """Return now, or a time in seconds since the epoch, in ISO 8601; such texts compare like times."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _matches(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest
