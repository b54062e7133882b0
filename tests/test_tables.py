from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.tables import format_percent, markdown_table, table_caption, write_table

NAN = float("nan")


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": ["SD+DINO*", "text|prompt", "DIFT"],
            "all": [Interval(0.129, 0.11, 0.1484), Interval(0.231, 0.21, 0.25), 0.529],
            "pairs": [600, 600, 12234],
            "published": [False, False, True],
        }
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.529, "52.9"),
        (Interval(0.529, 0.51, 0.5481), "52.9 [51.0, 54.8]"),
        (Interval(0.5, NAN, NAN), "50.0"),
        (1.0, "100.0"),
        (0.0, "0.0"),
        (None, "-"),
        (NAN, "-"),
        (Interval(NAN, NAN, NAN), "-"),
    ],
)
def test_percent_has_one_decimal_and_an_interval_in_brackets(value, text: str):
    assert format_percent(value) == text


def test_the_paper_stands_in_a_block_of_its_own(frame: pd.DataFrame):
    text = markdown_table(frame, table_caption("Prompts.", profile="mini", protocol="PCK per image"))

    assert text.splitlines() == [
        "Prompts. Profile `mini`; PCK per image.",
        "",
        "| method | all | pairs |",
        "| :--- | ---: | ---: |",
        "| SD+DINO\\* | 12.9 [11.0, 14.8] | 600 |",
        "| text\\|prompt | 23.1 [21.0, 25.0] | 600 |",
        "",
        "† *As printed in the paper (arXiv:2310.17569v2), not measured here: SD2-1 on photographs.*",
        "",
        "| method | all | pairs |",
        "| :--- | ---: | ---: |",
        "| *DIFT †* | *52.9* | *12234* |",
    ]


def test_rows_of_the_paper_without_numbers_are_counted_not_shown(frame: pd.DataFrame):
    text = markdown_table(frame.assign(all=[0.1, 0.2, None]), "Caption.", percent=["all"])

    assert "†" not in text and "DIFT" not in text
    assert "1 rows of the paper are not shown" in text and "`data/published.csv`" in text


def test_without_published_rows_nothing_is_said_of_the_paper(frame: pd.DataFrame):
    assert "paper" not in markdown_table(frame.iloc[:1], "Caption.")


def test_plain_numbers_are_not_taken_for_percent():
    frame = pd.DataFrame({"run": ["a", "b"], "seconds": [123.456, np.nan], "n": [3, 4]})

    assert markdown_table(frame, "").splitlines()[4:] == ["| a | 123.5 | 3 |", "| b | - | 4 |"]


def test_points_are_shown_as_their_numbers():
    frame = pd.DataFrame({"point": [1], "src": [[12.0, 3.25]]})

    assert markdown_table(frame, "").splitlines()[-1] == "| 1 | 12, 3.25 |"


def test_files_hold_fractions_for_machines_and_percent_for_people(frame: pd.DataFrame, tmp_path: Path):
    csv_path, md_path = write_table(frame, tmp_path / "tables", "table1", "Caption.")

    read = pd.read_csv(csv_path)
    assert list(read.columns) == ["method", "all", "all_low", "all_high", "pairs", "published"]
    assert read["all"].tolist() == [0.129, 0.231, 0.529]
    assert read["all_high"].tolist()[:2] == [0.1484, 0.25]
    assert np.isnan(read["all_low"][2])
    assert md_path.read_text(encoding="utf-8") == markdown_table(frame, "Caption.")
    assert b"\r" not in csv_path.read_bytes()


def test_writing_twice_gives_the_same_bytes(frame: pd.DataFrame, tmp_path: Path):
    first = [path.read_bytes() for path in write_table(frame, tmp_path, "t", "Caption.")]

    assert [path.read_bytes() for path in write_table(frame, tmp_path, "t", "Caption.")] == first
