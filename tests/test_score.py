"""Other systems' predictions, scored by the code that scores this library's own."""

import csv
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from test_evaluate import models, profile, run

from sd4match_lib.cli import main as cli
from sd4match_lib.config.profile import load_profile
from sd4match_lib.config.schema import DatasetConfig
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.score import score, template
from sd4match_lib.metrics.keypoints import KEYPOINT_COLUMNS, SCALARS
from sd4match_lib.runs.store import find_runs

__all__ = ["models", "profile"]

PAIRS = [("a", "b", "cat"), ("b", "a", "cat"), ("a", "c", "dog")]


@pytest.fixture
def spair(tmp_path):
    return layouts.write_spair(tmp_path / "SPair-71k", PAIRS)


def truth(root):
    """The lines of a file that has every point right; pictures are 60 x 40 pixels."""
    pairs = open_dataset(DatasetConfig("spair", str(root)), "test")
    return [
        {"pair_id": pair.pair_id, "keypoint": name, "x": float(x), "y": float(y)}
        for pair in pairs
        for name, (x, y) in zip(pair.keypoint_ids, pair.trg_px, strict=True)
    ]


def write(path, lines):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(lines[0]))
        table.writeheader()
        table.writerows(lines)
    return path


def scored(path, root, tmp_path, **options):
    return score(
        load_profile("mini"),
        path,
        dataset="spair",
        data_root=root,
        results_dir=tmp_path / "results",
        **options,
    )


def test_points_that_are_right_score_all_in_either_frame(spair, tmp_path):
    lines = truth(spair)
    original = scored(write(tmp_path / "right.csv", lines[::-1]), spair, tmp_path)
    assert list(original.keypoints.columns) == list(KEYPOINT_COLUMNS) and len(original.keypoints) == len(
        lines
    )
    assert (original.keypoints["distance_px"] < 1e-5).all()
    assert original.record.metrics["pck@0.05"] == 1 and original.keypoints["viewpoint"].eq(1).all()
    stretched = [{**line, "x": line["x"] * 240 / 60, "y": line["y"] * 200 / 40} for line in lines]
    same = scored(write(tmp_path / "big.csv", stretched), spair, tmp_path, frame="200x240")
    pd.testing.assert_frame_equal(same.keypoints, original.keypoints, atol=1e-4, rtol=0)


def test_a_point_off_by_the_threshold_counts_in_its_own_frame_only(spair, tmp_path):
    # The box is 50 x 33 pixels of a 60 x 40 picture: theta is 50 px there, and stretched to 128 x 128
    # max(50 * 128 / 60, 33 * 128 / 40) = 106.7. Five pixels down are 5 / 50 and 16 / 106.7.
    lines = [{**line, "y": line["y"] + 5} for line in truth(spair)]
    rows = scored(write(tmp_path / "low.csv", lines), spair, tmp_path).keypoints
    inside = rows[(rows["pair_id"] == "000001-a-b:cat") & (rows["trg_y_px"] > 0)]
    assert np.allclose(inside["distance_px"] / inside["theta_px"], 0.1)
    assert np.allclose(inside["distance_in"] / inside["theta_in"], 16 / (50 * 128 / 60))


def test_ones_own_predictions_come_back_with_the_same_rows(profile, tmp_path):
    own = run(profile, matcher="nn", ensemble=1)
    lines = own.keypoints[["pair_id", "keypoint", "pred_x_px", "pred_y_px"]]
    path = tmp_path / "exported.csv"
    lines.rename(columns={"pred_x_px": "x", "pred_y_px": "y"}).to_csv(path, index=False)
    again = score(profile, path, dataset="own", method="me")
    measured = [column for column in KEYPOINT_COLUMNS if column not in SCALARS]
    pd.testing.assert_frame_equal(again.keypoints[measured], own.keypoints[measured], atol=1e-4, rtol=0)
    # What features leave behind cannot be known of another system.
    assert again.keypoints[list(SCALARS)].isna().all(axis=None)
    assert again.record.kind == "score" and again.record.config["method"] == "me"
    assert [record.name for _, record in find_runs(profile.results_path, kind="score")] == [
        "own-test-score-me"
    ]
    assert score(profile, path, dataset="own", method="me").reused
    assert not score(profile, path, dataset="own", method="you").reused


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines.pop(1), "has no keypoint 4 for pair 000001-a-b:cat; add it"),
        (
            lambda lines: [line.update(x=line["x"] * 12) for line in lines],
            "lie outside their target pictures.*frame px.*--coordinates",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_leaves_no_results(spair, tmp_path, spoil, message):
    lines = truth(spair)
    spoil(lines)
    path = write(tmp_path / "bad.csv", lines)
    with pytest.raises(UserError, match=message) as caught:
        scored(path, spair, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_frames_columns_and_files_that_are_not_there_are_named(spair, tmp_path):
    path = write(tmp_path / "right.csv", truth(spair))
    with pytest.raises(UserError, match="there is no frame"):
        scored(path, spair, tmp_path, frame="in")
    with pytest.raises(UserError, match=r"gone\.csv: there is no such file; .*--template"):
        scored(tmp_path / "gone.csv", spair, tmp_path)
    path.write_text("pair_id,keypoint,x\n")
    with pytest.raises(UserError, match="column 'y' is missing"):
        scored(path, spair, tmp_path)


def test_a_template_filled_in_is_scored_from_the_command_line(spair, tmp_path, capsys):
    path = tmp_path / "form.csv"
    assert template(load_profile("mini"), path, dataset="spair", data_root=spair) == 9
    with pytest.raises(UserError, match="is there already"):
        template(load_profile("mini"), path, dataset="spair", data_root=spair)
    form = pd.read_csv(path, dtype=str)
    assert list(form.columns[:4]) == ["pair_id", "keypoint", "x", "y"] and form["x"].isna().all()
    # The simplest system there is: a point stays where it was.
    form.assign(x=form["src_x"], y=form["src_y"]).to_csv(path, index=False)
    command = ["score", str(path), "--dataset", "spair", "--data-root", str(spair), "--method", "still"]
    command += ["--supervision", "Z", "--results", str(tmp_path / "results")]
    assert cli.main([*command, "--by", "viewpoint", "--average", "point", "--alpha", "0.1", "0.2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("spair-test-score-still (profile mini): 3 pairs, 9 keypoints\n")
    assert "PCK per point" in out and "PCK@0.20" in out and "viewpoint" in out
    assert cli.main([*command, "--by", "size"]) == 2
    assert "'size'" in capsys.readouterr().err


def test_errors_and_the_geometry_aware_subset_are_read_off_the_same_run(tmp_path, capsys):
    root = layouts.write_spair(
        tmp_path / "data", PAIRS, kps_ids=["9", "10", "14"], trg_kps=[[10, 20], [40, 20], [0, 0]]
    )
    lines = truth(root)
    for line in lines[::3]:
        line["x"] += 30  # paw 9 is taken for paw 10
    path = write(tmp_path / "swapped.csv", lines)
    command = ["score", str(path), "--dataset", "spair", "--data-root", str(root), "--alpha", "0.1"]
    command += ["--results", str(tmp_path / "results")]
    assert cli.main([*command, "--by", "error"]) == 0
    out = capsys.readouterr().out
    assert "Kinds of errors in percent" in out and "KAP" not in out  # points alone say no similarities
    assert next(part for part in out.splitlines() if part.strip().startswith("0.10")).split()[3] == "66.7"
    assert cli.main([*command, "--subset", "geo", "--by", "error", "--average", "macro"]) == 0
    out = capsys.readouterr().out
    row = next(part for part in out.splitlines() if part.strip().startswith("0.10"))
    cells = [cell for cell in row.replace("[", " ").replace("]", " ").split() if "," not in cell]
    assert cells[:3] == ["0.10", "3", "6"] and "geometry-aware" in out and "macro" in out
    assert row.count("50.0 [50.0, 50.0]") == 4  # correct, swap, PCK, and the twin of every second paw
    assert cli.main([*command, "--subset", "geo"]) == 0
    assert "PCK@0.10" in capsys.readouterr().out


@pytest.mark.slow
def test_the_example_file_scores_on_minipair(project: Path, tmp_path, capsys):
    path = project / "examples" / "predictions.csv"
    command = ["score", str(path), "--dataset", "spair", "--max-pairs", "12", "--results", str(tmp_path)]
    assert cli.main(command) == 0
    assert "spair-test-score-predictions (profile mini): 12 pairs" in capsys.readouterr().out
