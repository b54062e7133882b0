import itertools
import logging

import pytest

from sd4match_lib.utils import progress as module
from sd4match_lib.utils.progress import format_duration, is_headless, progress


@pytest.fixture
def clock(monkeypatch):
    """Ten seconds pass between any two looks at the clock."""
    ticks = itertools.count(0, 10)
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)))


def test_batch_runs_get_a_line_now_and_then_with_the_time_left(clock, caplog):
    with caplog.at_level(logging.INFO):
        assert list(progress(range(10), description="features", unit="pair")) == list(range(10))
    assert [record.getMessage() for record in caplog.records] == [
        "features: 2 of 10 pair, about 2 min 00 s left",
        "features: 5 of 10 pair, about 1 min 00 s left",
        "features: 8 of 10 pair, about 22 s left",
    ]


def test_unknown_length_still_says_how_far_it_is(clock, caplog):
    with caplog.at_level(logging.INFO):
        list(progress(iter("abcd"), description="pages"))
    assert "pages: 2 it in 30 s" in caplog.text


def test_short_loops_say_nothing(caplog, capsys):
    with caplog.at_level(logging.INFO):
        list(progress([1, 2, 3]))
    assert not caplog.records
    assert capsys.readouterr().err == ""


def test_people_get_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(module, "is_headless", lambda: False)
    assert list(progress([1, 2], description="pairs")) == [1, 2]
    assert "pairs: 100%" in capsys.readouterr().err


def test_headless_is_a_choice_or_no_terminal(monkeypatch):
    assert is_headless()
    monkeypatch.delenv("SD4MATCH_HEADLESS")
    monkeypatch.delitem(module.sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: False, raising=False)
    assert is_headless()
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    assert not is_headless()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations_read_well(seconds, text):
    assert format_duration(seconds) == text
