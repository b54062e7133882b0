"""Ranking systems, and the field's published numbers beside them."""

from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from test_pck import random_rows, rows_from
from test_score import PAIRS, truth, write

from sd4match_lib.cli import main as cli
from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.score import score
from sd4match_lib.metrics.pck import paired_difference, pck
from sd4match_lib.report.field import columns_table, published_table
from sd4match_lib.report.leaderboard import measured_systems, rank, write_leaderboard
from sd4match_lib.report.published import load_field


def worsened(rows: pd.DataFrame, every: int) -> pd.DataFrame:
    """The same run with every so-many-th keypoint lost."""
    worse = rows.copy()
    worse.loc[worse.index % every == 0, "distance_in"] = 99.0
    return worse


def test_a_clear_difference_makes_a_rank_and_a_tie_shares_one():
    best = random_rows(0, pairs=120, chance=0.8)
    one_off = best.copy()
    one_off.loc[one_off.index == best["distance_in"].idxmin(), "distance_in"] = 99.0
    runs = {"worst": worsened(best, 2), "best": best, "nearly": one_off, "middle": worsened(best, 5)}

    table = rank(runs)
    assert table["method"].tolist() == ["best", "nearly", "middle", "worst"]
    # One lost point of some 360 is no clear difference; a fifth and a half are.
    assert table["rank"].tolist() == [1, 1, 3, 4]
    assert table["behind"].iloc[0] is None
    assert table["behind"].iloc[2] == paired_difference(runs["middle"], best, 0.1)
    assert table["PCK@0.10"].map(lambda cell: cell.value).tolist() == [
        pck(runs[name], 0.1) for name in table["method"]
    ]


def test_nothing_and_runs_on_other_pairs_are_not_ranked():
    with pytest.raises(UserError, match="nothing to rank"):
        rank({})
    with pytest.raises(UserError, match="differ in 2 keypoints"):
        rank({"a": rows_from({"p": [0.0]}), "b": rows_from({"q": [0.0]})})


def test_the_field_is_read_by_protocol_and_never_mixes_averages():
    field = load_field()
    assert field["value"].between(0, 1).all() and field["source"].str.len().gt(10).all()
    assert not field.duplicated(["row", "dataset", "column", "alpha", "average"]).any()
    spair = published_table("spair")
    assert spair["method"].iloc[0] == "DIFT" and spair["method"].iloc[-1] == "MARCO (2026)"
    named = spair.set_index("method")
    assert named.loc["ImCorr (2026)", "PCK@0.01"] == 0.332 and named.loc["DIFT", "PCK@0.10"] == 0.529
    # 85.6 per point is another number than 83.2 per image.
    assert named.loc["GeoAware-SC (2024)", "PCK@0.10"] == 0.832
    assert published_table("spair", average="point")["PCK@0.10"].tolist() == [0.856]
    assert "DiTF, Flux" in published_table("spair", average="unknown")["method"].tolist()
    unseen = published_table("spair_u").set_index("method")["PCK@0.10"]
    assert unseen["GeoAware-SC (2024)"] < unseen["SD+DINO"]
    assert published_table("ap10k", column="test_cross_family")["PCK@0.10"].tolist() == [0.35, 0.785, 0.834]
    assert published_table("pf_willow").empty


def test_todays_columns_leave_out_what_predictions_alone_cannot_say():
    rows = random_rows(0)
    for side in ("trg", "pred"):
        rows[f"{side}_x_in"], rows[f"{side}_y_in"] = np.float32(0), np.float32(0)
    rows["category"] = np.where(rows["pair_id"] < "020", "cat", "dog")
    table = columns_table({"theirs": rows})
    assert table["KAP"].item() is None and table["ceiling"].item() is None and "geo" not in table
    assert table["PCK@0.10"].item().value == pck(rows, 0.1)
    assert table["macro"].item().value == pck(rows, 0.1, average="macro") != table["point"].item().value


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path, Path]:
    """SPair-71k's layout, and the predictions of a good and a bad system."""
    root = layouts.write_spair(tmp_path / "SPair-71k", PAIRS)
    lines = truth(root)
    return (
        root,
        write(tmp_path / "good.csv", lines),
        write(tmp_path / "bad.csv", [{**line, "x": 0.0} for line in lines]),
    )


def test_score_takes_several_systems_and_ranks_them(scored, tmp_path, capsys):
    root, good, bad = scored
    command = ["score", str(bad), str(good), "--dataset", "spair", "--data-root", str(root)]
    command += ["--results", str(tmp_path / "results")]
    assert cli.main([*command, "--method", "Bad", "Good"]) == 0
    out = capsys.readouterr().out
    assert (
        out.index("spair-test-score-Bad")
        < out.index("spair-test-score-Good")
        < out.index("Systems by PCK@0.10")
    )
    ranking = out[out.index("Systems by") :].splitlines()
    assert ranking[3].split()[:2] == ["1", "Good"] and ranking[4].split()[:2] == ["2", "Bad"]
    assert cli.main([*command, "--method", "One"]) == 2
    assert "need as many different names" in capsys.readouterr().err
    assert cli.main([*command, "--template"]) == 2
    assert "--template writes one file" in capsys.readouterr().err


def test_the_leaderboard_holds_whole_splits_of_the_same_data_and_is_written_three_ways(scored, tmp_path):
    root, good, bad = scored
    profile, results = load_profile("mini"), tmp_path / "results"
    options = {"dataset": "spair", "data_root": root, "results_dir": results}
    for path in (good, bad):
        score(profile, path, **options)
    part = pd.read_csv(good)
    part = part[part["pair_id"] == part["pair_id"].iloc[0]]
    part.to_csv(tmp_path / "part.csv", index=False)
    score(profile, tmp_path / "part.csv", **options, max_pairs=1)

    systems = measured_systems(profile, "spair", "test", 3, results)
    assert set(systems) == {"good", "bad"}
    written = write_leaderboard(
        rank(systems), results / "tables", dataset="spair", split="test", profile="mini"
    )
    assert [path.name for path in written] == [
        f"leaderboard_spair_test.{kind}" for kind in ("csv", "md", "html")
    ]
    table = pd.read_csv(written[0])
    assert table["method"].tolist() == ["good", "bad"] and table["behind"].iloc[1] == pytest.approx(
        -2 / 3, abs=1e-6
    )
    page = written[2].read_text()
    assert "Published" in page and "MARCO (2026)" in page and "profile <code>mini</code>" in page
