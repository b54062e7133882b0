import logging
import os
import shutil
import sys
import time
from contextlib import nullcontext

import nbformat
import pytest
from tiny_notebooks import WORK, execute_here, write_notebook

from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.reproduce.heartbeat import Heartbeat
from sd4match_lib.reproduce.kernels import Kernels
from sd4match_lib.reproduce.notebook import open_notebook
from sd4match_lib.reproduce.reproduce import reproduce
from sd4match_lib.reproduce.runner import Failure, NotebookError, run_notebook
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import notebook_record_path, open_run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "notebooks"


@pytest.fixture
def run(scratch_profile, tmp_path):
    """Run a notebook file with the scratch profile and the given parameters."""

    def run(source, cwd=None, **parameters):
        profile = load_profile(scratch_profile)
        notebook = open_notebook(source, profile, {"PROFILE": str(scratch_profile), **parameters})
        return run_notebook(notebook, Kernels(profile, cwd or tmp_path))

    return run


def record_of(scratch_profile, stem):
    return RunRecord.read(notebook_record_path(load_profile(scratch_profile).results_path, stem))


def fail(run, source, kind, scratch_profile):
    with pytest.raises(NotebookError) as caught:
        run(source)
    assert caught.value.kind is kind
    assert record_of(scratch_profile, source.stem).status == "failed"
    results = load_profile(scratch_profile).results_path / "notebooks"
    assert not (results / source.name).exists(), "a failed run leaves no executed copy that looks complete"
    assert (results / f"{source.stem}.partial.ipynb").is_file()
    return caught.value


@pytest.mark.slow
def test_a_notebook_runs_with_its_parameters_and_leaves_a_clean_copy(folder, run, tmp_path, scratch_profile):
    source = write_notebook(folder / "00_a.ipynb", work=WORK + "\nimport os, sys\nprint(os.getcwd())")
    record = run(source, cwd=tmp_path, WORD="bonjour")
    assert (tmp_path / "results" / "tables" / "bonjour.txt").read_text() == "bonjour"
    assert record == record_of(scratch_profile, "00_a")
    assert record.status == "complete" and list(record.outputs) == ["tables/bonjour.txt"]
    assert record.config["parameters"] == {"PROFILE": str(scratch_profile), "WORD": "bonjour"}
    executed = nbformat.read(tmp_path / "results" / "notebooks" / "00_a.ipynb", as_version=4)
    assert set(executed.metadata) == {"kernelspec", "language_info"}
    assert [cell.id for cell in executed.cells][2] == "injected-parameters"
    assert all(set(cell.metadata) <= {"tags"} for cell in executed.cells)
    assert executed.cells[4].outputs[0].text == f"{tmp_path}\n"
    assert sorted(os.listdir(tmp_path / "results" / "notebooks")) == ["00_a.ipynb", "00_a.json"]


@pytest.mark.slow
def test_the_kernel_is_this_environments_own_headless_and_isolated(folder, run, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    look = (
        "\nimport os, sys\nenviron = os.environ\nprint(sys.executable, environ['SD4MATCH_HEADLESS'])"
        "\nprint(environ['HF_HUB_OFFLINE'], environ['MPLBACKEND'], environ['IPYTHONDIR'])"
    )
    run(write_notebook(folder / "00_a.ipynb", work=WORK + look))
    executed = nbformat.read(tmp_path / "results" / "notebooks" / "00_a.ipynb", as_version=4)
    first, second = executed.cells[4].outputs[0].text.splitlines()
    # Paths below the project's root are shortened in the executed copy.
    assert sys.executable.endswith(first.split()[0]) and first.split()[1] == "1"
    assert second.startswith("1 ") and "inline" in second and "sd4match-" in second
    assert os.environ["MPLBACKEND"] == "agg"


def test_an_unknown_parameter_is_refused_before_anything_runs(folder, run, scratch_profile, tmp_path):
    with pytest.raises(UserError, match=r"00_a\.ipynb has no parameter 'WROD'; it has: PROFILE, WORD"):
        run(write_notebook(folder / "00_a.ipynb"), WROD="x")
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_failing_cell_is_named_with_its_error(folder, run, scratch_profile):
    source = write_notebook(folder / "00_a.ipynb", work="1 / 0")
    error = fail(run, source, Failure.CELL, scratch_profile)
    assert str(error) == "00_a, cell 'work': ZeroDivisionError: division by zero"
    record = record_of(scratch_profile, "00_a")
    assert record.config["cell"] == "work" and record.error == "ZeroDivisionError: division by zero"


@pytest.mark.slow
def test_a_cell_that_shows_what_is_no_unicode_is_named_without_a_traceback(
    folder, run, scratch_profile, capfd
):
    source = write_notebook(folder / "00_a.ipynb", work=WORK + "\nprint(chr(0xD800))")
    error = fail(run, source, Failure.CELL, scratch_profile)
    assert error.cell == "work" and "not valid Unicode ('\\ud800')" in str(error)
    assert str(error).isprintable() and "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_results_that_are_deleted_meanwhile_are_said_in_one_line(folder, run, scratch_profile, monkeypatch):
    def execute(_source, partial, *_, **__):
        raise FileNotFoundError(f"output folder {os.path.dirname(partial)} doesn't exist.")

    monkeypatch.setattr("papermill.execute_notebook", execute)
    monkeypatch.setattr(Kernels, "take", lambda self: nullcontext())
    with pytest.raises(NotebookError, match=r"output folder .*results/notebooks doesn't exist") as caught:
        run(write_notebook(folder / "00_a.ipynb"))
    assert caught.value.kind is Failure.OUTPUTS
    assert record_of(scratch_profile, "00_a").status == "failed"


@pytest.mark.slow
def test_a_killed_kernel_never_passes_as_complete(folder, run, scratch_profile):
    source = write_notebook(folder / "00_a.ipynb", work="import os\nos.kill(os.getpid(), 9)")
    error = fail(run, source, Failure.KERNEL, scratch_profile)
    assert error.cell == "work" and int(error.kind) == 138


@pytest.mark.slow
def test_a_kernel_killed_after_the_record_was_written_does_not_pass_either(folder, run, scratch_profile):
    source = write_notebook(folder / "00_a.ipynb", after="import os\nos.kill(os.getpid(), 9)")
    assert fail(run, source, Failure.KERNEL, scratch_profile).cell == "after"


@pytest.mark.slow
def test_a_kernel_started_ahead_has_imported_and_one_that_nobody_took_is_ended(
    folder, scratch_profile, tmp_path
):
    profile = load_profile(scratch_profile)
    look = "\nimport sys\nprint({'diffusers', 'torch'} <= set(sys.modules))"
    look += "\nprint(sorted(set(globals()) & {'torch', 'sd4match_lib'}))"
    source = write_notebook(folder / "00_a.ipynb", work=WORK + look)
    notebook = open_notebook(source, profile, {"PROFILE": str(scratch_profile)})
    with Kernels(profile, tmp_path) as kernels:
        kernels.start_ahead()
        run_notebook(notebook, kernels, another_follows=True)
        assert kernels._spare is not None
        spare = kernels._spare.manager.provisioner.process.pid
        os.kill(spare, 0)
    executed = nbformat.read(tmp_path / "results" / "notebooks" / "00_a.ipynb", as_version=4)
    # Its names are the notebook's own: nothing stands in them that a kernel in JupyterLab would lack.
    assert executed.cells[4].outputs[0].text == "True\n[]\n"
    with pytest.raises(ProcessLookupError):
        os.kill(spare, 0)


@pytest.mark.slow
def test_a_cell_that_takes_too_long_is_a_timeout(folder, run, scratch_profile):
    scratch_profile.write_text(scratch_profile.read_text().replace("timeout_s = 60", "timeout_s = 1"))
    source = write_notebook(folder / "00_a.ipynb", work="import time\ntime.sleep(30)")
    with pytest.raises(NotebookError, match="timeout_s is 1") as caught:
        run(source)
    assert caught.value.kind is Failure.TIMEOUT and caught.value.cell == "work"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"after": "_ = table.write_text('changed')"}, r"not there as declared: tables/hello\.txt"),
        ({"work": WORK + "\nraise SystemExit(0)", "finish": "pass"}, "without calling finish_notebook"),
    ],
)
def test_missing_records_and_outputs_are_failures(folder, run, scratch_profile, parts, message):
    source = write_notebook(folder / "00_a.ipynb", **parts)
    error = fail(run, source, Failure.OUTPUTS, scratch_profile)
    with pytest.raises(NotebookError, match=message):
        raise error


@pytest.mark.slow
def test_an_old_success_does_not_cover_a_new_failure(folder, run, scratch_profile):
    source = write_notebook(folder / "00_a.ipynb")
    run(source)
    write_notebook(source, work="import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(NotebookError):
        run(source)
    assert record_of(scratch_profile, "00_a").status == "failed"


@pytest.fixture
def same_library(monkeypatch):
    """Hold the library still, however it is being edited meanwhile."""
    monkeypatch.setattr("sd4match_lib.reproduce.reproduce.library_hash", lambda: "same")


@pytest.fixture
def no_kernels(monkeypatch):
    """Run the notebooks here, where it is asked which of them run and not how."""
    monkeypatch.setattr("sd4match_lib.reproduce.runner._execute", execute_here)


def starts(caplog):
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return [line.split()[0] for line in lines if " starts" in line]


@pytest.mark.usefixtures("same_library", "no_kernels")
def test_reproduce_skips_what_is_complete_and_reruns_what_changed(
    folder, scratch_profile, caplog, tmp_path, monkeypatch
):
    caplog.set_level(logging.INFO)
    first, second = (write_notebook(folder / f"0{n}_{n}.ipynb") for n in range(2))
    write_notebook(second, work=WORK.replace("{WORD}", "{WORD}2"))

    def again(**options):
        records = reproduce(str(scratch_profile), notebooks_dir=folder, **options)
        assert all(record.status == "complete" for record in records)
        return starts(caplog)

    assert again() == ["00_0", "01_1"]
    assert again() == []
    write_notebook(first, work=WORK + "  # another comment")
    assert again() == ["00_0"], "its outputs are the same, so that what follows need not run again"
    write_notebook(first, work=WORK.replace("write_text(WORD)", "write_text('other')"))
    assert again() == ["00_0", "01_1"], "its outputs changed, and the next notebook may read them"
    (tmp_path / "results" / "tables" / "hello2.txt").write_text("edited")
    assert again() == ["01_1"]
    scratch_profile.write_text(
        scratch_profile.read_text() + '[notebooks.parameters.01_1]\nWORD = "salut"\n[evaluation]\nsigma = 2\n'
    )
    assert again(only=["01"]) == ["01_1"]
    assert again() == ["00_0"]
    assert again(only=["00"], fresh=True) == ["00_0"]
    monkeypatch.setattr("sd4match_lib.reproduce.reproduce.library_hash", lambda: "edited")
    assert again(only=["00"]) == ["00_0"]


RUN = """
from sd4match_lib.runs.store import open_run
run = open_run(profile.results_path, {name!r}, "test", {{}}, {{}}, profile="scratch")
if not run.complete:
    with run:
        _ = run.output("number.txt").write_text("42")
"""


@pytest.mark.usefixtures("same_library", "no_kernels")
def test_a_deleted_run_is_made_again_by_the_notebook_that_rests_on_it(
    folder, scratch_profile, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    for stem, name in (("00_a", "alpha"), ("01_b", "beta")):
        table = f"table = profile.results_path / 'tables' / '{stem}.txt'\ntable.parent.mkdir(exist_ok=True)\n"
        work = RUN.format(name=name) + table + "_ = table.write_text(WORD)"
        write_notebook(folder / f"{stem}.ipynb", work=work)
    first = reproduce(str(scratch_profile), notebooks_dir=folder)
    names = [[name.split("-")[0] for name in record.config["runs"]] for record in first]
    assert names == [["alpha"], ["beta"]]
    caplog.clear()
    (alpha,) = (tmp_path / "results" / "runs").glob("alpha-*")
    shutil.rmtree(alpha)
    reproduce(str(scratch_profile), notebooks_dir=folder)
    assert (alpha / "number.txt").read_text() == "42" and starts(caplog) == ["00_a"]


SEARCH = """
from sd4match_lib.runs.store import find_runs
found = [record.name for _, record in find_runs(profile.results_path, kind="score")]
table = profile.results_path / "tables" / "scored.txt"
table.parent.mkdir(exist_ok=True)
_ = table.write_text(" ".join(found))
"""


@pytest.mark.usefixtures("same_library", "no_kernels")
def test_a_newly_scored_run_is_an_input_of_the_notebook_that_lists_them(
    folder, scratch_profile, caplog, tmp_path
):
    caplog.set_level(logging.INFO)
    write_notebook(folder / "00_a.ipynb")
    write_notebook(folder / "01_b.ipynb", work=SEARCH)
    reproduce(str(scratch_profile), notebooks_dir=folder)
    for kind, expected in (("evaluate", []), ("score", ["01_b"]), (None, [])):
        if kind:
            with open_run(tmp_path / "results", "rival", kind, {}, {}, profile="scratch") as made:
                made.output("keypoints.parquet").write_text("rows")
        caplog.clear()
        reproduce(str(scratch_profile), notebooks_dir=folder)
        assert starts(caplog) == expected
    assert (tmp_path / "results" / "tables" / "scored.txt").read_text() == "rival"


@pytest.mark.usefixtures("same_library", "no_kernels")
def test_results_that_came_with_a_checkout_are_made_again_here(
    folder, scratch_profile, caplog, tmp_path, monkeypatch
):
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)  # a relative profile means the same to the kernel, which works elsewhere
    write_notebook(folder / "00_0.ipynb")
    reproduce(scratch_profile.name, notebooks_dir=folder)
    assert starts(caplog) == ["00_0"]
    shutil.rmtree(tmp_path / "cache")  # what a fresh clone lacks
    reproduce(str(scratch_profile), notebooks_dir=folder)
    assert starts(caplog) == ["00_0"]


@pytest.mark.slow
@pytest.mark.usefixtures("same_library")
def test_reproduce_stops_at_a_failure_and_goes_on_from_there(folder, scratch_profile, caplog):
    caplog.set_level(logging.INFO)
    write_notebook(folder / "00_0.ipynb")
    write_notebook(folder / "01_1.ipynb", work="raise ValueError('no data')")
    with pytest.raises(NotebookError, match="01_1, cell 'work': ValueError: no data"):
        reproduce(str(scratch_profile), notebooks_dir=folder)
    assert starts(caplog) == ["00_0", "01_1"]
    write_notebook(folder / "01_1.ipynb")
    reproduce(str(scratch_profile), notebooks_dir=folder)
    assert starts(caplog) == ["01_1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["07"]}, "there is no notebook '07'; there are: 00_0"),
        ({"notebooks_dir": None}, "no notebooks in"),
    ],
)
def test_requests_that_cannot_be_met_are_named(folder, scratch_profile, options, message):
    write_notebook(folder / "00_0.ipynb")
    options = {"notebooks_dir": folder, **options}
    if options["notebooks_dir"] is None:
        options["notebooks_dir"] = folder / "nowhere"
    with pytest.raises(UserError, match=message):
        reproduce(str(scratch_profile), **options)


def test_a_profile_cannot_set_parameters_of_a_notebook_that_is_not_there(folder, scratch_profile):
    write_notebook(folder / "00_0.ipynb")
    scratch_profile.write_text(scratch_profile.read_text() + "[notebooks.parameters.99_x]\nWORD = 'a'\n")
    with pytest.raises(UserError, match=r"sets notebooks\.parameters for '99_x'"):
        reproduce(str(scratch_profile), notebooks_dir=folder)


def test_nothing_begins_while_data_or_weights_are_missing(tmp_path):
    path = tmp_path / "far.toml"
    roots = "".join(
        f'[datasets.{name}]\nroot = "{tmp_path}/{name}"\n' for name in ("spair", "pf_pascal", "pf_willow")
    )
    own = f'results_dir = "{tmp_path}/results"\ncache_dir = "{tmp_path}/cache"\n'
    path.write_text(f'extends = "paper"\nname = "far"\n{own}{roots}')
    with pytest.raises(UserError, match="'far' is not ready") as refused:
        reproduce(str(path), only=("01",))
    told = str(refused.value)
    assert f"nothing at {tmp_path}/spair; published 53,340 train" in told and "fetch SPair-71k.tar.gz" in told
    assert "GB free" in told and "hours on one GPU" in told
    assert not (tmp_path / "results" / "notebooks").exists()


def test_long_cells_are_reported_with_the_time_left(caplog):
    caplog.set_level(logging.INFO)
    with Heartbeat("00_a (1 of 2)", expected_s=100.0, every_s=0.01) as heartbeat:
        heartbeat.enter_cell(cell={"id": "work"}, cell_index=3)
        time.sleep(0.05)
    assert "00_a (1 of 2): cell work, 0 s so far, about 1 min 40 s left" in caplog.text
