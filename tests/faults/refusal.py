"""How every fault must be answered: our own error, on one line, that names what is wrong."""

from __future__ import annotations

import pytest

from sd4match_lib.errors import LONGEST, UserError


def refused(call, *named):
    """Assert that `call` is refused in one sentence that holds each of the texts, and return the sentence."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) <= 2 * LONGEST and message.endswith((".", ")"))
    for text in named:
        assert text in message, message
    return message
