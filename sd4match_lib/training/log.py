"""The log of a training: a CSV file that tells of every step once, however often the training was killed."""

import csv
import io
from pathlib import Path
from typing import Any

from sd4match_lib.errors import DataError, UserError, reason
from sd4match_lib.utils.files import atomic_write_text
from sd4match_lib.utils.reading import read_csv

COLUMNS = ("step", "seconds", "loss", "pck")


class TrainingLog:
    """Rows of step, seconds, mean loss since the last row, and validation PCK@0.1 where there was one."""

    def __init__(self, path: Path, step: int, tensorboard: Path | None = None) -> None:
        """Go on with a log.

        Args:
            path: the CSV file.
            step: rows from after this step are dropped: those steps are taken again.
            tensorboard: a folder for TensorBoard's events, or None.

        Raises:
            UserError: TensorBoard is asked for and not installed.
            DataError: the file is damaged.
        """
        self._path = path
        self._rows: list[dict[str, Any]] = []
        if path.is_file():
            self._rows = [row for row in _read_rows(path) if row["step"] <= step]
        self._writer = _open_writer(tensorboard) if tensorboard is not None else None

    def add(self, step: int, seconds: float, loss: float, pck: float | None) -> None:
        """Add a row and write the file."""
        row = {"step": step, "seconds": round(seconds, 2), "loss": round(loss, 6), "pck": pck}
        self._rows.append(row)
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write_text(self._path, stream.getvalue())
        if self._writer is not None:
            self._writer.add_scalar("loss", loss, step)
            if pck is not None:
                self._writer.add_scalar("validation PCK@0.1", pck, step)

    def close(self) -> None:
        """Flush what TensorBoard has not written yet."""
        if self._writer is not None:
            self._writer.close()


def _read_rows(path: Path) -> list[dict[str, Any]]:
    fix = "delete it: the training goes on, and the log begins there"
    rows = []
    try:
        found = read_csv(path, COLUMNS, fix=fix)
    except DataError as error:
        raise DataError(f"{error} Or {fix}.") from error
    for line, cells in enumerate(found, start=2):
        try:
            numbers = {name: float(cells[name]) for name in COLUMNS[1:3]}
            pck = float(cells["pck"]) if cells["pck"] else None
            rows.append({"step": int(cells["step"]), **numbers, "pck": pck})
        except ValueError as error:
            raise DataError(f"{path}, line {line}: a cell is no number ({reason(error)}); {fix}.") from error
    return rows


def _open_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("TensorBoard is not installed; use `pip install 'sd4match[tensorboard]'`.") from error
    return SummaryWriter(str(folder))
