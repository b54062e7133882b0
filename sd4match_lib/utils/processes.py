"""Worker processes that end with the process that they work for."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

_LOOK_EVERY_S = 1.0


def worker_pool() -> ProcessPoolExecutor:
    """Return a pool with a process for each core; they end with this one, even when it is killed."""
    return ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)
    )


def end_with_parent(parent: int) -> None:
    """Have this process end when its parent is gone: a killed one cannot tell its workers.

    Args:
        parent: the parent's process number.
    """
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    # An orphan is given to another process.
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
