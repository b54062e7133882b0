"""One writer at a time: the operating system's own file locks, which end with the process that holds them."""

import logging
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from sd4match_lib.errors import UserError, WriteError, storage_sentence
from sd4match_lib.utils.files import refuse_links, write_json
from sd4match_lib.utils.reading import read_json

_log = logging.getLogger(__name__)

LOCKS_FOLDER = ".locks"
_TOLD_EVERY_S = 600.0
_ASKED_EVERY_S = 0.2
_SIGNED_WITHIN_S = 10.0


class WorkLock:
    """The right to write one thing; whoever asks while another process has it waits, and says for whom.

    The lock's own file is never deleted, because others may be waiting for it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Say what it is the right to write: `name`, among what lies below `folder`."""
        self._name = name
        self._folder = folder / LOCKS_FOLDER
        self._lock = FileLock(self._folder / f"{name}.lock")
        self._owner_path = self._folder / f"{name}.json"

    def __enter__(self) -> Self:
        """Take the lock, waiting for its holder to end; that of a dead process is free.

        Raises:
            UserError: its folder holds a link, or cannot be written.
        """
        refuse_links(self._folder.parent, self._folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
        except OSError as error:
            raise WriteError(storage_sentence(error, self._folder)) from error
        try:
            since = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
            owner = {"process": os.getpid(), "host": platform.node(), "since": since}
            write_json(self._owner_path, owner)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next one in."""
        self._owner_path.unlink(missing_ok=True)
        self._lock.release()

    def _acquire(self) -> None:
        wait, begun = 0.0, time.monotonic()
        while True:
            try:
                self._lock.acquire(timeout=wait, poll_interval=_ASKED_EVERY_S)
                return
            except Timeout:
                owner = self._owner()
                if not owner and time.monotonic() - begun < _SIGNED_WITHIN_S:
                    wait = _ASKED_EVERY_S
                    continue
                told = owner or "another process"
                _log.warning("%s: %s works on it; waiting until that is done", self._name, told)
                wait = _TOLD_EVERY_S

    def _owner(self) -> str:
        """Who has the lock; empty where that one has only just begun."""
        try:
            owner = read_json(self._owner_path)
            return f"process {owner['process']} on {owner['host']}, since {owner['since']},"
        except (UserError, KeyError, TypeError):
            return ""
