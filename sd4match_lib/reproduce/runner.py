"""Running one notebook in batch, trusting nothing but the record that it leaves.

papermill only warns about an unknown parameter, and marks the cells of a kernel that died as completed. So
parameters are checked before, and afterwards a notebook counts as complete only when its last cell said so
and every file that it declared is there.
"""

import logging
import time
from enum import IntEnum

from sd4match_lib.errors import UserError
from sd4match_lib.reproduce.heartbeat import Heartbeat
from sd4match_lib.reproduce.kernels import Kernels
from sd4match_lib.reproduce.notebook import (
    Notebook,
    clean_notebook,
    failure_in,
    literal_path,
    save_notebook,
)
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.utils.paths import project_root

logger = logging.getLogger(__name__)

KERNEL_START_S = 120
IOPUB_TIMEOUT_S = 60  # nbclient's own 4 seconds fail cells that print a lot


class Failure(IntEnum):
    """How a notebook can fail; the value is the exit code."""

    PARAMETERS = 2
    CELL = 3
    TIMEOUT = 4
    OUTPUTS = 5
    KERNEL = 138


class NotebookError(UserError):
    """A notebook did not end well; `cell` is the id of the cell it happened in, "" where it is in none."""

    def __init__(self, kind: Failure, stem: str, cell: str, reason: str) -> None:
        """Make the error and its one-line message."""
        where = f"{stem}, cell {cell!r}" if cell else stem
        super().__init__(f"{where}: {reason}")
        self.kind, self.stem, self.cell, self.reason = kind, stem, cell, reason
        self.exit_code = int(kind)


def run_notebook(
    notebook: Notebook,
    kernels: Kernels,
    *,
    another_follows: bool = False,
    fingerprint: str = "",
    label: str = "",
    expected_s: float | None = None,
) -> RunRecord:
    """Execute a notebook and verify what it leaves; its record keeps the fingerprint.

    Returns:
        The record that the notebook wrote, completed by what only the runner knows.

    Raises:
        NotebookError: a cell failed or took too long, the kernel died, or the notebook ended without
            declaring itself complete or without its outputs. The partial copy stays for inspection, and the
            record says "failed".
    """
    notebook.record_path.parent.mkdir(parents=True, exist_ok=True)
    # From here on an older success says nothing any more.
    notebook.record_path.unlink(missing_ok=True)
    started = time.monotonic()
    try:
        with Heartbeat(label or notebook.stem, expected_s) as heartbeat:
            _execute(notebook, kernels, heartbeat, another_follows)
        record = _verify(notebook)
    except NotebookError as error:
        failed = RunRecord(notebook.stem, notebook.stem, "notebook", notebook.profile.name, {}, {}, 0)
        failed.config = {"parameters": notebook.parameters, "cell": error.cell}
        failed.status, failed.error = "failed", error.reason
        failed.wall_s = round(time.monotonic() - started, 2)
        failed.write(notebook.record_path)
        raise
    save_notebook(clean_notebook(notebook.partial_path, project_root()), notebook.executed_path)
    notebook.partial_path.unlink()
    record.config = {**record.config, "parameters": notebook.parameters}
    record.inputs = {**record.inputs, "fingerprint": fingerprint}
    record.wall_s = round(time.monotonic() - started, 2)
    record.write(notebook.record_path)
    return record


def _execute(notebook: Notebook, kernels: Kernels, heartbeat: Heartbeat, another_follows: bool) -> None:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    stem = notebook.stem
    limit = notebook.profile.notebooks.timeout_s
    try:
        with kernels.take() as kernel:
            if another_follows:
                kernels.start_ahead()
            papermill.execute_notebook(
                literal_path(notebook.source),
                literal_path(notebook.partial_path),
                notebook.overrides,
                kernel_name="python3",
                km=kernel,
                progress_bar=False,
                log_output=False,
                start_timeout=KERNEL_START_S,
                execution_timeout=limit,
                autosave_cell_every=60,
                iopub_timeout=IOPUB_TIMEOUT_S,
                store_widget_state=False,
                record_timing=False,
                on_cell_execute=heartbeat.enter_cell,
            )
    except PapermillExecutionError as error:
        cell = failure_in(notebook.partial_path) or heartbeat.cell
        raise NotebookError(Failure.CELL, stem, cell, f"{error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        reason = f"{str(error).splitlines()[0]} The profile's notebooks.timeout_s is {limit}."
        raise NotebookError(Failure.TIMEOUT, stem, heartbeat.cell, reason) from error
    except DeadKernelError as error:
        reason = "the kernel died, most often for lack of memory"
        raise NotebookError(Failure.KERNEL, stem, heartbeat.cell, reason) from error
    except FileNotFoundError as error:
        # papermill saves after each cell, and complains of a folder that is gone with an error of no number.
        raise NotebookError(Failure.OUTPUTS, stem, heartbeat.cell, str(error)) from error
    except UnicodeEncodeError as error:
        # A notebook is a file of UTF-8, which papermill writes after each cell.
        reason = (
            f"what it shows is not valid Unicode ({error.object[error.start : error.end]!r}); show its repr()"
        )
        raise NotebookError(Failure.CELL, stem, heartbeat.cell, reason) from error
    except RuntimeError as error:
        # jupyter_client raises a bare RuntimeError for a kernel that does not come up.
        raise NotebookError(Failure.KERNEL, stem, heartbeat.cell, f"no kernel: {error}") from error


def _verify(notebook: Notebook) -> RunRecord:
    record = notebook.read_record()
    if record is None or record.status != "complete":
        reason = "ended without calling finish_notebook, so nothing says that it is complete"
    elif missing := record.missing_outputs(notebook.profile.results_path):
        reason = f"declared outputs that are not there as declared: {', '.join(missing)}"
    else:
        return record
    raise NotebookError(Failure.OUTPUTS, notebook.stem, "", reason)
