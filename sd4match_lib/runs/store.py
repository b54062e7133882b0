"""Run records: what was computed, from what, where, and what came out.

A run lives in `results/<profile>/runs/<run_id>/`. Its id is a hash of its configuration and inputs, so that
the same request finds the finished run again; `run.json` says how it ended and which files it left. A
notebook leaves the same sort of record as `results/<profile>/notebooks/<stem>.json`.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError, WriteError
from sd4match_lib.runs import machine
from sd4match_lib.runs.record import RunRecord, utc
from sd4match_lib.utils.files import refuse_links, sha256_file
from sd4match_lib.utils.fingerprint import content_hash, plain
from sd4match_lib.utils.locks import WorkLock

RECORD_FILE = "run.json"

# The runs that this process has asked for: what a notebook's results rest on.
_ASKED: dict[str, Path] = {}
# The searches that this process has made for all runs of a kind, which others may have added.
_SEARCHED: set[tuple[Path, str]] = set()


class Run:
    """A run and its folder; leaving its `with` block marks how it ended.

    One process at a time is inside the block; another one waits, and may find the run complete then.

    Attributes:
        folder: where its files belong; a half-done run's files are still there to go on from.
        record: what will be written.
    """

    def __init__(self, folder: Path, record: RunRecord, device: str) -> None:
        """Make a run; use `open_run`."""
        self.folder = folder
        self.record = record
        self._device = device
        self._lock = _lock(folder)
        self._declared: list[str] = []
        self._clock = 0.0
        self._clean_up: Callable[[], None] | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.record.run_id

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers that the run was made for; fill them while it is open."""
        return self.record.metrics

    @property
    def complete(self) -> bool:
        """Whether the run ended well and its files are still those that it wrote."""
        return self.record.status == "complete" and not self.record.missing_outputs(self.folder)

    def output(self, name: str) -> Path:
        """Declare a result file and return its path; it must exist when the run ends."""
        if name not in self._declared:
            self._declared.append(name)
        return self.folder / name

    def when_complete(self, clean_up: Callable[[], None]) -> None:
        """Have something done once the record says "complete", while no other process is in the folder."""
        self._clean_up = clean_up

    def __enter__(self) -> Self:
        """Start an attempt: the record says "running" from here on.

        Where another process has completed the run while this one waited for it, `complete` says so, and
        nothing is to be done.

        Raises:
            UserError: the folder is or holds a link, or its record is damaged.
        """
        self._lock.__enter__()
        try:
            return self._begin()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise

    def _begin(self) -> Self:
        path = self.folder / RECORD_FILE
        if path.is_file():
            self.record = RunRecord.read(path)
            if self.complete:
                return self
        refuse_links(self.folder.parent.parent, self.folder)
        self._declared.clear()
        self._clock = time.monotonic()
        self.record.begin(self._device)
        self.record.write(self.folder / RECORD_FILE)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Mark the attempt complete, or failed with its error.

        Raises:
            UserError: a declared output was not written.
        """
        try:
            if not self.complete:
                self._end(error)
            if self._clean_up is not None and self.record.status == "complete":
                self._clean_up()
        except WriteError:
            if error is None:  # what stopped the run says more than that the record of it has no room either
                raise
        finally:
            self._lock.__exit__(None, None, None)

    def _end(self, stopped_by: BaseException | None) -> None:
        missing = [name for name in self._declared if not (self.folder / name).is_file()]
        error = stopped_by
        if error is None and missing:
            error = UserError(f"run {self.run_id} did not write {', '.join(missing)}.")
        record = self.record
        record.wall_s = round(time.monotonic() - self._clock, 2)
        record.peak_memory_mb = machine.peak_memory_mb()
        record.outputs = {
            name: sha256_file(self.folder / name) for name in self._declared if name not in missing
        }
        record.status = "complete" if error is None else "failed"
        record.error = None if error is None else f"{type(error).__name__}: {error}"
        record.write(self.folder / RECORD_FILE)
        if stopped_by is None and error is not None:
            raise error


def open_run(
    results_dir: Path | str,
    name: str,
    kind: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    *,
    profile: str,
    seed: int = 0,
    device: str = "cpu",
) -> Run:
    """Find or make the run of a request.

    Use it as::

        run = open_run(profile.results_path, "table1-text", "evaluate", config, inputs, profile=profile.name)
        if not run.complete:
            with run:
                if not run.complete:  # nor by another process in the meantime
                    write_keypoints(run.output("keypoints.parquet"))
                    run.metrics["pck@0.10"] = 0.42

    Args:
        results_dir: the profile's results; the run lives in `runs/<run_id>` below it.
        name: what the run is about; the first part of its id.
        kind: what sort of run.
        config: every setting that the result depends on.
        inputs: hashes of the weights, data (and code, where the caller wants that) that it depends on.
        profile: the profile's name.
        seed: what random streams start from; part of the identity.
        device: where it will run; not part of the identity.
    """
    record = RunRecord("", name, kind, profile, plain(config), plain(inputs), seed)
    record.run_id = run_id = f"{name}-{_identity_hash(record)}"
    folder = Path(results_dir) / "runs" / run_id
    path = folder / RECORD_FILE
    if path.is_file():
        if RunRecord.read(path).started < os.environ.get("SD4MATCH_FRESH_SINCE", ""):
            _clear_stale(folder)
        if path.is_file():
            record = RunRecord.read(path)
    _ASKED[run_id] = folder
    return Run(folder, record, device)


def _clear_stale(folder: Path) -> None:
    """Empty a run's folder: `reproduce --fresh` wants all computed again, and takes up nothing half-done."""
    with _lock(folder):
        path = folder / RECORD_FILE
        # Another process may have computed it again while this one waited.
        if path.is_file() and RunRecord.read(path).started >= os.environ.get("SD4MATCH_FRESH_SINCE", ""):
            return
        shutil.rmtree(folder)


def _lock(folder: Path) -> WorkLock:
    """The right to write in a run's folder, kept beside the runs: a folder holds its run's files alone."""
    return WorkLock(folder.parent.parent, folder.name)


def is_whole(folder: Path) -> bool:
    """Say whether a run's folder holds a run that ended well, with its files as it wrote them."""
    path = folder / RECORD_FILE
    if not path.is_file():
        return False
    record = RunRecord.read(path)
    return record.status == "complete" and not record.missing_outputs(folder)


def find_runs(results_dir: Path | str, *, kind: str | None = None) -> list[tuple[Path, RunRecord]]:
    """Return the complete runs (of one kind only) below a profile's results, with folders, ordered by id.

    A record alone, as a repository keeps it without the run's files, is none.
    """
    if kind is not None:
        _SEARCHED.add((Path(results_dir).resolve(), kind))
    found = []
    for path in sorted(Path(results_dir).glob(f"runs/*/{RECORD_FILE}")):
        record = RunRecord.read(path)
        _check_identity(path, record)
        whole = all((path.parent / name).is_file() for name in record.outputs)
        if record.status == "complete" and whole and kind in (None, record.kind):
            found.append((path.parent, record))
    return found


def _check_identity(path: Path, record: RunRecord) -> None:
    """Refuse a record whose id is not that of its configuration: somebody has changed one of them."""
    if not record.run_id.endswith(f"-{_identity_hash(record)}"):
        raise UserError(
            f"{path}: its config, inputs or seed are not those that its run_id was made of; delete the run "
            "and ask for it again."
        )


def _identity_hash(record: RunRecord) -> str:
    identity = {name: getattr(record, name) for name in ("kind", "config", "inputs", "seed")}
    return content_hash(plain(identity))[:8]


def listing_hash(results_dir: Path | str, kind: str) -> str:
    """Return a hash of what `find_runs` finds of a kind, by which a notebook knows that there is more now."""
    return content_hash({record.run_id: record.outputs for _, record in find_runs(results_dir, kind=kind)})


def notebook_record_path(results_dir: Path | str, stem: str) -> Path:
    """Return where a notebook's record lies, e.g. `results/mini/notebooks/01_prompt_baselines.json`."""
    return Path(results_dir) / "notebooks" / f"{stem}.json"


def finish_notebook(
    stem: str,
    profile: Profile,
    outputs: Iterable[Path | str],
    *,
    metrics: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Declare a notebook complete: its last cell's call, without which no batch run counts it as done.

    Raises:
        UserError: an output does not exist or lies outside the profile's results.
    """
    root = profile.results_path
    files = [_below(Path(path), root, stem) for path in outputs]
    record = RunRecord(stem, stem, "notebook", profile.name, {}, {}, profile.seed)
    record.begin("cpu")
    record.started = utc(machine.process_start())
    own = {run: folder for run, folder in _ASKED.items() if folder.parent.parent.resolve() == root.resolve()}
    runs = [run for run, folder in own.items() if is_whole(folder)]
    kinds = sorted(kind for folder, kind in _SEARCHED if folder == root.resolve())
    searched = {kind: listing_hash(root, kind) for kind in kinds}
    record.config = {"profile_hash": profile.hash, "runs": sorted(runs), "searched": searched}
    record.peak_memory_mb = machine.peak_memory_mb()
    record.wall_s = round(time.time() - machine.process_start(), 2)
    record.metrics = plain(metrics or {})
    record.outputs = {name: sha256_file(root / name) for name in files}
    record.status = "complete"
    record.write(notebook_record_path(root, stem))
    return record


def _below(path: Path, root: Path, stem: str) -> str:
    path = path if path.is_absolute() else root / path
    if not path.is_file():
        raise UserError(f"notebook {stem} declares the output {path}, which does not exist.")
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError as error:
        raise UserError(f"notebook {stem} declares the output {path}, which is not below {root}.") from error
