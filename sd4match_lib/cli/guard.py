"""What every command shares when something goes wrong: one line for people, and an exit code."""

import argparse
import difflib
import io
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from sd4match_lib.errors import UserError, one_line, reason, storage_sentence

_RESUME = "the same command goes on from what is complete."
_REPORT = "report it with the command that you gave, as SECURITY.md says"


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line below the usage, with the nearest word for a mistyped one."""

    def error(self, message: str) -> NoReturn:
        """Complain and exit with code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print; argparse itself would pass over an output that has no room for the help."""
        if file is not sys.stdout:
            return super()._print_message(message, file)
        sys.stdout.write(message)
        sys.stdout.flush()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        words = [str(choice) for choice in action.choices]
        near = difflib.get_close_matches(str(value), words, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(words)}"
        raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}")


def at_least(lowest: float, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """Return an argument's type: a finite number of this kind, int or float, that is not lower."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {_NUMBERS[kind]}") from None
        if not lowest <= value <= _HIGHEST:
            raise argparse.ArgumentTypeError(f"{text} is not a {_NUMBERS[kind]} from {lowest} to {_HIGHEST}")
        return value

    return parse


def named_path(text: str) -> Path:
    """Return an argument's path; of an empty one Python makes the working folder, which nobody named."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names no file or folder; write . for this folder")
    return Path(text)


_NUMBERS = {int: "whole number", float: "number"}
_HIGHEST = 10**9


def open_streams() -> None:
    """Have closed streams lead nowhere, and escape letters that an output's encoding lacks."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # The lowest free number, which is the closed one: no file of ours may get it, others print there.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def check_arguments(argv: Sequence[str]) -> None:
    """Refuse arguments that could be neither shown nor recorded.

    Raises:
        UserError: one is not UTF-8.
    """
    for argument in argv:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"the argument {argument!r} is not valid UTF-8; rename what it names.") from error


def guarded(command: Callable[[], int]) -> int:
    """Run a command; whatever ends it becomes one line on the error stream and an exit code."""
    try:
        with _terminable():
            code = command()
            sys.stdout.flush()  # at the end of the process nobody would say that there was no room for it
            return code
    except UserError as error:
        return _complain(str(error), error.exit_code)
    except _Terminated:
        return _complain(f"stopped; {_RESUME}", 143)
    except KeyboardInterrupt:
        return _complain(f"interrupted; {_RESUME}", 130)
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError as error:
        return _complain(
            f"there is not enough memory ({reason(error)}); lower the batch size, or close other programs. "
            f"What is complete is kept: {_RESUME}",
            2,
        )
    except OSError as error:
        return _complain(storage_sentence(error), 2) if error.errno is not None else _unexpected(error)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which is not imported for this
            return _complain(f"the GPU's memory is full; lower the batch size. {_RESUME.capitalize()}", 2)
        return _unexpected(error)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends what is under way as Ctrl-C does."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM end the command as Ctrl-C does, so that kernels and workers end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _unexpected(error: Exception) -> int:
    """The last net: nobody foresaw this error, so that its traceback is kept for a report."""
    try:
        handle, path = tempfile.mkstemp(prefix="sd4match-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            traceback.print_exception(error, file=stream)
        where = f"the full traceback is in {path}; {_REPORT}."
    except OSError:
        where = f"{_REPORT}."
    return _complain(f"unexpected {type(error).__name__}: {reason(error)}; {where}", 70)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"sd4match: {message}\n")
    return code
