"""A line now and then while a notebook runs: which cell, since when, how much longer."""

import logging
import threading
import time
from typing import Any, Self

from sd4match_lib.utils.progress import LOG_EVERY_S, format_duration

logger = logging.getLogger(__name__)


class Heartbeat:
    """Logs from a thread of its own, since one cell may take hours; `cell` was entered last."""

    def __init__(self, label: str, expected_s: float | None, every_s: float = LOG_EVERY_S) -> None:
        """Make a heartbeat; lines begin with a label, and say what is left of `expected_s` if known."""
        self.cell = ""
        self._label, self._expected_s, self._every_s = label, expected_s, every_s
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def enter_cell(self, *, cell: Any, cell_index: int) -> None:
        """Note which cell runs; nbclient's `on_cell_execute`."""
        self.cell = cell.get("id") or f"number {cell_index}"

    def __enter__(self) -> Self:
        """Start the thread."""
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._every_s):
            gone = time.monotonic() - self._start
            left = ""
            if self._expected_s is not None and self._expected_s > gone:
                left = f", about {format_duration(self._expected_s - gone)} left"
            logger.info("%s: cell %s, %s so far%s", self._label, self.cell, format_duration(gone), left)
