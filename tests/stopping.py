"""Stopping a training as Ctrl-C does, at a step that a test chooses."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sd4match_lib.training.objective import pair_loss


@contextmanager
def interrupted(*, at_loss: int) -> Iterator[None]:
    """The training in here is stopped when it asks for its `at_loss`-th loss, counted from 1."""
    asked = []

    def stopped(*args, **kwargs):
        asked.append(1)
        if len(asked) == at_loss:
            raise KeyboardInterrupt
        return pair_loss(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("sd4match_lib.training.loop.pair_loss", stopped)
        yield
