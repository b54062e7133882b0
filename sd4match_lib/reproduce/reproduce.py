"""`sd4match reproduce`: the notebooks in order, as far as they are not already done."""

import logging
import os
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeVar

from sd4match_lib.config.profile import Profile, load_profile, profile_names
from sd4match_lib.errors import UserError
from sd4match_lib.report.comparison import gpu_hours, is_comparable
from sd4match_lib.report.items import ITEMS
from sd4match_lib.report.published import filled_in
from sd4match_lib.reproduce.doctor import Status, check, format_report
from sd4match_lib.reproduce.kernels import Kernels
from sd4match_lib.reproduce.notebook import Notebook, open_notebook
from sd4match_lib.reproduce.prepare import prepare_data
from sd4match_lib.reproduce.runner import run_notebook
from sd4match_lib.runs.record import RunRecord, utc
from sd4match_lib.runs.store import is_whole, listing_hash
from sd4match_lib.utils.files import atomic_write_text, refuse_links, sha256_file
from sd4match_lib.utils.fingerprint import content_hash, library_hash, weights_hash
from sd4match_lib.utils.locks import WorkLock
from sd4match_lib.utils.paths import inside, project_root, user_path
from sd4match_lib.utils.progress import format_duration
from sd4match_lib.utils.reading import read_text

T = TypeVar("T")

logger = logging.getLogger(__name__)


def reproduce(
    profile_name: str,
    *,
    only: Sequence[str] = (),
    fresh: bool = False,
    notebooks_dir: Path | None = None,
) -> list[RunRecord]:
    """Run the notebooks in order, skipping those that are complete for the same inputs.

    A notebook's inputs are its source, its parameters, the profile, the library's code, the shipped weights,
    the outputs of the notebooks before it, and its own outputs and the runs that it asked for, which must
    still be as they were written: whoever deletes a run has it computed again by what rests on it. Where a
    notebook looked for all runs of a kind, such as scored predictions, a new one is an input too.
    What came with a checkout was made elsewhere and does not count as complete here.

    Args:
        profile_name: a profile's name or the path of its TOML file.
        only: the notebooks to run, by number ("05") or stem; all when empty.
        fresh: run everything again, whatever is complete.
        notebooks_dir: where the notebooks are; the project's `notebooks/` when None.

    Returns:
        The records, one a notebook, in order.

    Raises:
        UserError: there is no such profile or notebook, a notebook lacks a parameter that the profile sets,
            a link lies among the results, or data or weights are missing: nothing is begun then, whichever
            notebooks are chosen.
        NotebookError: a notebook failed; those after it are not run.
    """
    profile = load_profile(profile_name)
    folder = notebooks_dir or project_root() / "notebooks"
    found = [_open(path, profile, profile_name) for path in _find(folder)]
    chosen = _choose([notebook.stem for notebook in found], only)
    _check_parameters(profile, [notebook.stem for notebook in found])
    refuse_links(profile.results_path, profile.results_path)
    with WorkLock(profile.results_path, "reproduce"):
        return _run_in_order(profile, found, chosen, fresh)


def _run_in_order(
    profile: Profile, found: Sequence[Notebook], chosen: Collection[str], fresh: bool
) -> list[RunRecord]:
    prepare_data(profile)
    _check_ready(profile, chosen)
    common = {"profile": profile.hash, "library": library_hash(), "weights": weights_hash()}
    common.update(place=_place(profile), data=os.environ.get("SD4MATCH_DATA", ""))
    common.update(published=sha256_file(filled_in()) if filled_in().is_file() else "")
    due = [notebook for notebook in found if notebook.stem in chosen]
    # Runs that notebooks share are recomputed too, but only once: those that begin after this moment count.
    fresh_since = utc() if fresh else ""
    records: list[RunRecord] = []
    with Kernels(profile, project_root(), fresh_since) as kernels:
        for position, notebook in enumerate(due):
            earlier = {other.stem: _outputs(other) for other in found[: found.index(notebook)]}
            own = {"source": sha256_file(notebook.source), "parameters": notebook.parameters}
            fingerprint = content_hash({**common, **own, "earlier": earlier})
            record = notebook.read_record()
            if record is not None and not fresh and _is_done(notebook, record, fingerprint):
                logger.info("%s is complete for the same inputs", notebook.stem)
            else:
                label = f"{notebook.stem} ({position + 1} of {len(due)})"
                expected = _expected_s(due[position:])
                left = "" if expected is None else f", about {format_duration(expected)} left in all"
                logger.info("%s starts%s", label, left)
                record = run_notebook(
                    notebook,
                    kernels,
                    another_follows=position + 1 < len(due),
                    fingerprint=fingerprint,
                    label=label,
                    expected_s=expected,
                )
                logger.info("%s is complete after %s", label, format_duration(record.wall_s))
            records.append(record)
    return records


def _open(path: Path, profile: Profile, profile_name: str) -> Notebook:
    # The kernel's working directory is another one.
    name = profile_name if profile_name in profile_names() else str(user_path(profile_name).resolve())
    overrides = {"PROFILE": name, **profile.notebooks.parameters.get(path.stem, {})}
    return open_notebook(path, profile, overrides)


def _find(folder: Path) -> list[Path]:
    # The report is over all the others, whatever their numbers.
    found = sorted(folder.glob("[0-9]*.ipynb"), key=lambda path: (path.stem.endswith("_report"), path.stem))
    if not found:
        raise UserError(
            f"there are no notebooks in {folder}; run this inside the project's checkout, or write them: "
            f"sd4match notebooks {folder}"
        )
    return found


def _choose(stems: Sequence[str], only: Sequence[str]) -> set[str]:
    if not only:
        return set(stems)
    chosen = set()
    for entry in only:
        wanted = entry.removesuffix(".ipynb")
        matching = {stem for stem in stems if wanted in (stem, stem.split("_")[0])}
        if not matching:
            raise UserError(f"there is no notebook {entry!r}; there are: {', '.join(stems)}.")
        chosen |= matching
    return chosen


def _check_parameters(profile: Profile, stems: Sequence[str]) -> None:
    for stem in profile.notebooks.parameters:
        if stem not in stems:
            raise UserError(
                f"profile {profile.name!r} sets notebooks.parameters for {stem!r}, which is no notebook; "
                f"there are: {', '.join(stems)}."
            )


def _check_ready(profile: Profile, stems: Collection[str]) -> None:
    """Refuse to begin what would stop hours later for want of a dataset or a model."""
    found = check(profile)
    if all(finding.status is not Status.MISSING for finding in found):
        return
    told = [finding for finding in found if finding.status is not Status.OK or finding.subject == "disk"]
    costs = [item.cost for item in ITEMS if item.notebook in stems]
    estimate = (
        f"\n\nWith all of it here, this takes an estimated {sum(map(gpu_hours, costs)):.0f} hours on one GPU "
        "(operations counted, 100 TFLOP/s assumed)."
        if is_comparable(profile, "spair")
        else ""
    )
    report = f"\n\n{format_report(told)}{estimate}"
    raise UserError(f"profile {profile.name!r} is not ready.", report=report)


def _place(profile: Profile) -> str:
    """Return this place's own mark; it is kept in the cache, which is not committed and so never travels."""
    path = profile.cache_path / "place.txt"
    refuse_links(profile.cache_path, path)
    if not path.is_file():
        atomic_write_text(path, uuid.uuid4().hex)
    return read_text(path, limit=1024, fix="delete it")


def _outputs(notebook: Notebook) -> dict[str, str]:
    record = notebook.read_record()
    return record.outputs if record is not None and record.status == "complete" else {}


def _is_done(notebook: Notebook, record: RunRecord, fingerprint: str) -> bool:
    results = notebook.profile.results_path
    return (
        record.status == "complete"
        and record.inputs.get("fingerprint") == fingerprint
        and notebook.executed_path.is_file()
        and not record.missing_outputs(results)
        and all(map(is_whole, _runs_of(notebook, record)))
        and all(
            listing_hash(results, kind) == seen
            for kind, seen in _config(notebook, record, "searched", dict).items()
        )
    )


def _runs_of(notebook: Notebook, record: RunRecord) -> list[Path]:
    """The folders of the runs that a notebook asked for."""
    where = f"{notebook.record_path}, config.runs"
    names = _config(notebook, record, "runs", list)
    return [inside(notebook.profile.results_path / "runs", name, where) for name in names]


def _config(notebook: Notebook, record: RunRecord, name: str, kind: type[T]) -> T:
    found = record.config.get(name, kind())
    if not isinstance(found, kind):
        raise UserError(
            f"{notebook.record_path}: config.{name} is {found!r}; delete the record and run again."
        )
    return found


def _expected_s(notebooks: Sequence[Notebook]) -> float | None:
    """Sum the earlier durations; a notebook that never ran counts as the mean of those that did."""
    records = [notebook.read_record() for notebook in notebooks]
    known = [record.wall_s for record in records if record is not None and record.status == "complete"]
    return sum(known) * len(records) / len(known) if known else None
