"""Leaderboards and reruns over records, rows and tables that are damaged, hostile or somebody else's."""

import json
import shutil

import pandas as pd
import pytest
from refusal import refused
from small_runs import in_folder, run_score

from sd4match_lib.report.claims import read_claims
from sd4match_lib.report.html import html_page
from sd4match_lib.report.leaderboard import measured_systems
from sd4match_lib.report.published import load_published
from sd4match_lib.report.rerun import compare_results
from sd4match_lib.report.tables import markdown_table
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import _identity_hash
from sd4match_lib.utils.files import sha256_file
from sd4match_lib.utils.paths import package_path

HEADER = "method,PCK,PCK_low,PCK_high\n"
GOOD = HEADER + "x,0.5,0.4,0.6\n"
TABLES = {
    "empty": "",
    "header alone": HEADER,
    "words": HEADER + "x,a,b,c\n",
    "ragged": HEADER + "x,0.1\n",
    "surplus cells": HEADER + "x,1,2,3,4,5\n",
    "a date": HEADER + "x,2020-01-01,2020-01-01,2020-01-02\n",
    "complex": HEADER + "x,1+2j,1,2\n",
    "a list": HEADER + 'x,"[1,2]",1,2\n',
    "decimal commas": HEADER + 'x,"0,5","0,4","0,6"\n',
    "an open quote": HEADER + '"x,0.5,0.4,0.6\n',
    "NUL": HEADER + "x\0,0.5,0.4,0.6\n",
    "twice": "method,PCK,PCK,PCK_low,PCK_high\nx,1,2,3,4\n",
    "no text": "PCK,PCK_low,PCK_high\n0.1,0.1,0.2\n",
    "no interval": "method,PCK\nx,0.5\n",
    "another row": HEADER + "y,0.5,0.4,0.6\n",
    "conflict marks": "<<<<<<< ours\n" + GOOD,
    "no columns": ",,,\n,,,\n",
}


@pytest.mark.parametrize("damaged", ["first", "second"])
@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_a_table_that_cannot_be_compared_is_refused(tmp_path, text, damaged):
    for name in ("first", "second"):
        (tmp_path / name / "tables").mkdir(parents=True)
        (tmp_path / name / "tables" / "t.csv").write_text(text if name == damaged else GOOD)
    refused(lambda: compare_results(tmp_path / "first", tmp_path / "second"), "tables")


CLAIM = {
    "claim": "A is better",
    "source": "Table 1",
    "paper": "0.05",
    "control": "False",
    "trainings": "3",
    "difference": "0.1",
    "low": "0.05",
    "high": "0.2",
    "p": "0.01",
    "for": "True",
    "p_excluded": "",
}
NUMBERS = ("paper", "difference", "p", "p_excluded")
CLAIMS = [
    *((column, None) for column in CLAIM),
    *((column, value) for column in NUMBERS for value in ("words", "inf", "1e400", "9" * 400, "2026-01-01")),
    *((column, value) for column in ("low", "high") for value in ("words", "2026-01-01")),
    *((column, value) for column in ("p", "p_excluded", "trainings") for value in ("-1", "-5")),
    *(("trainings", value) for value in ("words", "", "1.5", "9" * 400)),
    *((column, value) for column in ("control", "for") for value in ("words", "", "nan", "-5", "2.5")),
    ("claim", ""),
]


@pytest.mark.parametrize(("column", "value"), CLAIMS, ids=lambda value: repr(value)[:30])
def test_a_claims_field_that_means_nothing_is_named(tmp_path, column, value):
    row = {name: cell for name, cell in (CLAIM | {column: value}).items() if cell is not None}
    (tmp_path / "claims").mkdir()
    path = tmp_path / "claims" / "00_a.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    refused(lambda: read_claims(tmp_path), str(path), "delete it" if value else "")


def test_the_claim_that_is_changed_above_is_whole(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "00_a.csv").write_text(f"{','.join(CLAIM)}\n{','.join(CLAIM.values())}\n")
    assert list(read_claims(tmp_path)["verdict"]) == ["agrees"]


PUBLISHED = ["", "binary", "table,row\na,b\n", "[" * 1000, "HEADER" + "x," * 8 + "x\n", "HEADER" + "1," * 40]


@pytest.mark.parametrize("text", PUBLISHED, ids=lambda text: text[:20])
def test_numbers_that_a_user_filled_in_wrongly_are_named(tmp_path, monkeypatch, text):
    path = tmp_path / "published.csv"
    header = package_path("report/paper_blanks.csv").read_text().splitlines()[0] + "\n"
    path.write_bytes(bytes(range(256)) if text == "binary" else text.replace("HEADER", header).encode())
    monkeypatch.setattr("sd4match_lib.report.published.filled_in", lambda: path)
    refused(load_published, str(path))


@pytest.fixture(scope="module")
def scored(tiny_models, tmp_path_factory):
    """The results folder of one scored system."""
    return tmp_path_factory.mktemp("scored")


@pytest.fixture
def profile(scored, small_profile, tmp_path):
    if not (scored / "results").exists():
        run_score(in_folder(small_profile, scored))
    shutil.copytree(scored / "results", tmp_path / "results")
    return in_folder(small_profile, tmp_path)


def rank(profile):
    return measured_systems(profile, "own", "test", 2)


def change(profile, *, consistent, **fields):
    """Change a record's fields; with `consistent`, also its id, as somebody would who hides it."""
    (path,) = (profile.results_path / "runs").glob("*/run.json")
    content = json.loads(path.read_text())
    for field, value in fields.items():
        group, _, name = field.partition("__")
        if value == "gone":
            del content[group][name]
        else:
            content[group][name] = value
    if consistent:
        path.write_text(json.dumps(content))
        content["run_id"] = f"{content['name']}-{_identity_hash(RunRecord.read(path))}"
    path.write_text(json.dumps(content))


FIELDS = ("config__dataset", "config__split", "config__pairs", "config__method", "inputs__data")


def test_what_is_damaged_below_is_whole(profile):
    assert list(rank(profile)) == ["predictions"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_record_that_was_changed_is_told_from_its_id(profile, field):
    change(profile, consistent=False, **{field: "other"})
    refused(lambda: rank(profile), "run.json", "run_id")


@pytest.mark.parametrize("field", FIELDS)
def test_a_setting_that_a_record_lacks_is_named(profile, field):
    change(profile, consistent=True, **{field: "gone"})
    refused(lambda: rank(profile), field.replace("__", "."), "delete the run")


@pytest.mark.parametrize("value", [[], {}, 3, None, "own "])
def test_a_record_of_another_request_is_left_out(profile, value):
    change(profile, consistent=True, config__dataset=value)
    assert rank(profile) == {}


@pytest.mark.parametrize("name", ["![x](a.png)", "<script>alert(1)</script>", "a\nb", "\u202eb", "|"])
def test_a_systems_name_stays_text(profile, name, tmp_path):
    change(profile, consistent=True, config__method=name)
    (shown,) = rank(profile)
    table = markdown_table(pd.DataFrame({"method": [shown], "PCK": [0.5]}), "A table.")
    page = html_page(table, "A page", tmp_path).split("</head>")[1]
    assert "<script" not in page and "<img" not in page and "\u202e" not in page
    assert page.count("<tr>") == 2, "a name makes no row"


def infinite(rows):
    return rows.assign(pred_x_px=float("inf"))


@pytest.mark.parametrize(
    "alter",
    [infinite, lambda rows: rows.drop(columns="theta_px"), lambda rows: pd.concat([rows, rows])],
    ids=["infinite", "a column less", "twice"],
)
def test_rows_that_cannot_be_ranked_are_named(profile, alter):
    (path,) = (profile.results_path / "runs").glob("*/keypoints.parquet")
    alter(pd.read_parquet(path)).to_parquet(path)
    record = json.loads(path.with_name("run.json").read_text())
    record["outputs"] = {path.name: sha256_file(path)}
    path.with_name("run.json").write_text(json.dumps(record))
    refused(lambda: rank(profile), "keypoints.parquet")
