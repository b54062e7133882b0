"""Worker processes that end with the process that they work for."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from types import ModuleType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_EVERY_S = 1.0
_STOPS = {signal.SIGINT, signal.SIGTERM}
_MASKS = hasattr(signal, "pthread_sigmask")
"""Windows has none."""


class WorkerPool(ProcessPoolExecutor):
    """A pool with a process for each core; they end with this one, even when it is killed.

    The work must come from modules that can be imported: the user's script is not run again for it.
    When its block ends with an error, or by Ctrl-C, what no worker has begun is dropped.
    """

    def __init__(self) -> None:
        """Make the pool; its processes begin with the work."""
        super().__init__(
            os.cpu_count(),
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(os.getpid(),),
        )

    def submit(self, work: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> Future[T]:
        """Hand out work; a process is never left half started when this one is told to stop."""
        with _nameless_main():
            if not _MASKS:
                return super().submit(work, *arguments, **options)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
            try:
                return super().submit(work, *arguments, **options)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Wait for the work, or for what is under way of it."""
        self.shutdown(cancel_futures=error is not None)


@contextmanager
def _nameless_main() -> Iterator[None]:
    """Hide what this process runs from `multiprocessing`, whose new processes would run it too.

    Without `if __name__ == "__main__":` in it, each of them would make the same data again, and wait for the
    lock that this process has.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin(parent: int) -> None:
    # The mask came from the parent. Ctrl-C stays out: a terminal sends it to all, and the parent tells of it.
    if _MASKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    end_with_parent(parent)


def end_with_parent(parent: int) -> None:
    """Have this process end when its parent is gone: a killed one cannot tell its workers."""
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    # An orphan is given to another process.
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
