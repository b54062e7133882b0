"""One way to show progress: a bar for people, a line now and then for logs."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

LOG_EVERY_S = 30.0


def is_headless() -> bool:
    """Say whether nobody watches.

    That is when SD4MATCH_HEADLESS=1 is set, or outside Jupyter when the error stream is no terminal.
    """
    if os.environ.get("SD4MATCH_HEADLESS") == "1":
        return True
    # A kernel's stderr is no terminal either, yet somebody looks at the notebook.
    return "ipykernel" not in sys.modules and not sys.stderr.isatty()


def format_duration(seconds: float) -> str:
    """Write a duration for people: "42 s", "3 min 05 s", "2 h 10 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress(
    iterable: Iterable[T],
    *,
    total: int | None = None,
    description: str = "",
    unit: str = "it",
    status: Callable[[], str] | None = None,
) -> Iterator[T]:
    """Yield the items of `iterable` while showing how far it is.

    Interactively a tqdm bar (the notebook one in Jupyter). In batch runs a log line at most every 30 seconds,
    with the time left; a loop that ends sooner says nothing.

    Args:
        iterable: what to go through.
        total: how many items; taken from `len(iterable)` when None and possible.
        description: what is being done, e.g. "features".
        unit: what one item is, e.g. "pair".
        status: tells, at any time, what is worth knowing besides, e.g. the loss.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if is_headless():
        yield from _logged(iterable, total, description or "working", unit, status)
        return
    from tqdm.auto import tqdm

    bar = tqdm(iterable, total=total, desc=description or None, unit=unit, dynamic_ncols=True)
    for item in bar:
        yield item
        if status is not None:
            bar.set_postfix_str(status(), refresh=False)


def _logged(
    iterable: Iterable[T], total: int | None, description: str, unit: str, status: Callable[[], str] | None
) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(iterable):
        now = time.monotonic()
        if done and now - last >= LOG_EVERY_S:
            last = now
            more = f", {status()}" if status is not None else ""
            if total:
                left = format_duration((now - start) / done * (total - done))
                logger.info("%s: %d of %d %s%s, about %s left", description, done, total, unit, more, left)
            else:
                taken = format_duration(now - start)
                logger.info("%s: %d %s%s in %s", description, done, unit, more, taken)
        yield item
