from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sd4match_lib.data.pf_willow import PfWillowDataset
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.types import Difficulty, Pair, ThresholdRule
from sd4match_lib.errors import DataError, UserError
from sd4match_lib.metrics.averages import describe_protocol
from sd4match_lib.metrics.keypoints import (
    KEYPOINT_COLUMNS,
    keypoint_frame,
    read_keypoints,
    score_pair,
    thresholds,
    write_keypoints,
)
from sd4match_lib.metrics.pck import bootstrap_interval, paired_difference, pck, pck_table

HW_IN = (100, 100)
REAL_WILLOW = Path(__file__).parents[2] / "shared/data/pf-willow"


def image(name: str, hw_px: tuple[int, int] = (50, 200), box_px=(20.0, 10.0, 100.0, 40.0)) -> ImageRecord:
    return ImageRecord(f"cat/{name}", "cat", Path(f"{name}.jpg"), hw_px, box_px)


def make_pair(trg_px, rule: ThresholdRule = ThresholdRule.IMAGE, pair_id: str = "a-b", **changes) -> Pair:
    trg_px = np.asarray(trg_px, np.float32)
    names = tuple(str(i) for i in range(len(trg_px)))
    pair = Pair(pair_id, "cat", image("a"), image("b"), np.zeros_like(trg_px), trg_px, names, rule)
    return replace(pair, **changes)


def rows_from(
    distances: dict[str, list[float]], category: dict[str, str] | None = None, **flags
) -> pd.DataFrame:
    """Rows with the given distances to a threshold of 100 in both frames."""
    rows = []
    for pair_id, values in distances.items():
        hw_100 = replace(image(f"{pair_id}-b"), hw_px=HW_IN)
        pair = make_pair(np.zeros((len(values), 2)), pair_id=pair_id, src=image(f"{pair_id}-a"), trg=hw_100)
        pair = replace(pair, category=(category or {}).get(pair_id, "cat"), **flags.get(pair_id, {}))
        rows += score_pair(pair, [(value, 0.0) for value in values], HW_IN)
    return keypoint_frame(rows)


# Thresholds: the picture is 200 x 50 px (w x h), the input 100 x 100: x is halved, y doubled.


def test_box_threshold_stretches_the_box_before_taking_its_longer_side():
    pair = make_pair([[30, 20]], ThresholdRule.BOX)

    # The box is 80 x 30 px: its longer side is x in pixels (80), but y in the input (30 * 2 = 60 > 80 / 2).
    assert thresholds(pair, HW_IN) == (60.0, 80.0)


def test_classic_bug_threshold_of_the_box_in_another_frame_than_the_keypoints():
    pair = make_pair([[30, 20]], ThresholdRule.BOX)
    # 7 input pixels off: wrong by the input's theta (60 * 0.1), though within the original box's 80 * 0.1.
    rows = keypoint_frame(score_pair(pair, [[15 + 7, 40]], HW_IN))

    assert pck(rows, 0.1) == 0
    # In the original picture it is 14 px off, against 8.
    assert rows["distance_px"].item() == pytest.approx(14)
    assert pck(rows, 0.1, frame="px") == 0
    assert pck(rows, 0.2, frame="px") == 1


def test_image_threshold_is_the_longer_side_in_each_frame():
    assert thresholds(make_pair([[30, 20]]), (96, 128)) == (128.0, 200.0)


def test_keypoint_threshold_is_the_larger_extent_in_each_frame():
    pair = make_pair([[20, 10], [60, 40], [40, 15]], ThresholdRule.KEYPOINTS)

    # Extents 40 x 30 px become 20 x 60 in the input.
    assert thresholds(pair, HW_IN) == (60.0, 40.0)


def test_classic_bug_padding_leaks_into_the_extent_of_the_keypoints():
    valid = [[60.0, 30.0], [80.0, 40.0]]
    pair = make_pair(valid, ThresholdRule.KEYPOINTS)
    padded = make_pair([*valid, [np.nan, np.nan], [np.nan, np.nan]], ThresholdRule.KEYPOINTS)

    assert thresholds(padded, HW_IN) == thresholds(pair, HW_IN) == (20.0, 20.0)
    with pytest.raises(ValueError, match=r"needs predictions \(2, 2\), no padding, not \(4, 2\)"):
        score_pair(pair, np.zeros((4, 2)), HW_IN)


def test_thresholds_that_cannot_be_computed_say_why():
    boxless = make_pair([[30, 20]], ThresholdRule.BOX, trg=image("b", box_px=None))
    with pytest.raises(DataError, match=r"b\.jpg has no box"):
        thresholds(boxless, HW_IN)
    with pytest.raises(DataError, match="a-b have no extent"):
        thresholds(make_pair([[30, 20]], ThresholdRule.KEYPOINTS), HW_IN)


# Rows


def test_rows_measure_distances_in_both_frames_and_keep_the_flags():
    pair = make_pair([[100, 25], [40, 10]], difficulty=Difficulty(2, 1, 3, 0))

    rows = keypoint_frame(score_pair(pair, [[53, 54], [20, 20]], HW_IN))

    assert list(rows.columns) == list(KEYPOINT_COLUMNS)
    assert rows["distance_in"].tolist() == [5.0, 0.0]
    assert rows["distance_px"].tolist() == pytest.approx([np.hypot(6, 2), 0.0])
    assert rows[["pred_x_px", "pred_y_px"]].iloc[0].tolist() == [106.0, 27.0]
    assert rows[["theta_in", "theta_px"]].iloc[0].tolist() == [100.0, 200.0]
    assert rows[["viewpoint", "scale", "truncation", "occlusion"]].iloc[0].tolist() == [2, 1, 3, 0]


def test_true_points_are_clamped_into_the_input_as_predictions_are():
    # 199 px of 200 lie at 99.5 in the input, half a pixel beyond the last one that a prediction can reach.
    rows = keypoint_frame(score_pair(make_pair([[199, 20]]), [[99, 40]], HW_IN))

    assert rows["distance_in"].item() == 0
    assert rows["distance_px"].item() == pytest.approx(1)


def test_parquet_round_trip_keeps_values_types_and_missing_flags(tmp_path: Path):
    rows = rows_from({"p": [1.0, 2.0], "q": [3.0]}, p={"difficulty": Difficulty(0, 1, 2, 3)})

    write_keypoints(rows, tmp_path / "deep/keypoints.parquet")

    pd.testing.assert_frame_equal(read_keypoints(tmp_path / "deep/keypoints.parquet"), rows)
    assert rows.dtypes["viewpoint"] == "Int8"
    assert rows["viewpoint"].isna().tolist() == [False, False, True]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["keypoints.parquet"]


def test_damaged_foreign_or_missing_rows_are_one_clear_sentence(tmp_path: Path):
    path = tmp_path / "keypoints.parquet"
    with pytest.raises(DataError, match="does not exist"):
        read_keypoints(path)
    path.write_bytes(b"PAR1 cut short")
    with pytest.raises(DataError, match=r"keypoints\.parquet is not readable parquet"):
        read_keypoints(path)
    rows_from({"p": [1.0]}).drop(columns="theta_px").to_parquet(path)
    with pytest.raises(DataError, match="lacks the column theta_px"):
        read_keypoints(path)
    rows = rows_from({"p": [1.0]})
    with pytest.raises(DataError, match="keypoint 0 of pair p twice"):
        keypoint_frame([*rows.to_dict("records"), *rows.to_dict("records")])


def test_a_prediction_that_is_not_finite_stops_instead_of_counting_as_wrong():
    with pytest.raises(UserError, match="predictions of pair a-b are not finite"):
        score_pair(make_pair([[30, 20]]), [[np.nan, 1.0]], HW_IN)


# PCK


def test_per_image_and_per_point_by_hand_with_the_border_counted_as_correct():
    # alpha * theta = 10: pair p has 1 of 1, pair q 1 of 4 (10.0 is on the border).
    rows = rows_from({"p": [0.0], "q": [10.0, 10.001, 50.0, 99.0]})

    assert pck(rows, 0.1) == pytest.approx((1 + 0.25) / 2)
    assert pck(rows, 0.1, average="point") == pytest.approx(2 / 5)
    assert pck(rows, 0.5) == pytest.approx((1 + 0.75) / 2)
    assert pck(rows, 0.0999) == pytest.approx(0.5)


def test_one_of_five_points_off_is_four_fifths():
    assert pck(rows_from({"p": [0.0, 1.0, 2.0, 3.0, 11.0]}), 0.1) == pytest.approx(0.8)


def test_groups_by_category_and_by_difficulty():
    rows = rows_from(
        {"p": [0.0], "q": [0.0, 50.0], "r": [50.0]},
        category={"p": "cat", "q": "cat", "r": "dog"},
        p={"difficulty": Difficulty(0, 0, 0, 0)},
        q={"difficulty": Difficulty(2, 0, 0, 0)},
        r={"difficulty": Difficulty(2, 0, 0, 0)},
    )

    by_category = pck_table(rows, [0.1])
    by_viewpoint = pck_table(rows, [0.1], by="viewpoint", average="point")

    for table in (by_category, by_viewpoint):
        table["PCK@0.10"] = [cell.value for cell in table["PCK@0.10"]]
    assert by_category.values.tolist()[:-1] == [["cat", 2, 3, 0.75], ["dog", 1, 1, 0.0]]
    assert by_viewpoint.values.tolist()[:-1] == [["0", 1, 1, 1.0], ["2", 2, 3, pytest.approx(1 / 3)]]


def test_table_ends_with_all_over_pairs_not_the_mean_of_categories():
    rows = rows_from({"p": [0.0], "q": [0.0], "r": [50.0]}, category={"p": "cat", "q": "cat", "r": "dog"})

    table = pck_table(rows, [0.1, 0.5])

    assert table["category"].tolist() == ["cat", "dog", "all"]
    assert table["pairs"].tolist() == [2, 1, 3]
    assert [cell.value for cell in table["PCK@0.10"]] == [1.0, 0.0, pytest.approx(2 / 3)]
    assert [cell.value for cell in table["PCK@0.50"]] == [1.0, 1.0, 1.0]
    assert table["PCK@0.10"].iloc[2] == bootstrap_interval(rows, 0.1)


def test_unknown_truth_is_kept_in_rows_and_left_out_of_pck():
    rows = keypoint_frame(score_pair(make_pair([[30, 20], [np.nan, np.nan]]), [[15, 40], [1, 1]], HW_IN))

    assert rows["pred_x_px"].notna().all()
    assert pck(rows, 0.1) == 1


def test_nothing_to_score_and_wrong_arguments_are_clear():
    rows = rows_from({"p": [0.0]})
    unknown = keypoint_frame(score_pair(make_pair([[np.nan, np.nan]]), [[1, 1]], HW_IN))

    for empty in (keypoint_frame([]), unknown):
        for score in (pck, bootstrap_interval):
            with pytest.raises(UserError, match="nothing to score"):
                score(empty, 0.1)
    with pytest.raises(UserError, match="'pairs': choose one of image, point"):
        pck(rows, 0.1, average="pairs")
    with pytest.raises(UserError, match="'ft': choose one of in, px"):
        pck(rows, 0.1, frame="ft")
    with pytest.raises(UserError, match="alpha is 0"):
        pck(rows, 0)
    with pytest.raises(UserError, match="no values in 'viewpoint'"):
        pck_table(rows, [0.1], by="viewpoint")
    with pytest.raises(UserError, match="no column 'size'"):
        pck_table(rows, [0.1], by="size")


def test_protocol_says_average_and_frame():
    assert describe_protocol() == "PCK per image, distances in the stretched network input"
    assert describe_protocol(average="point", frame="px").endswith(
        "per point, distances in the original picture"
    )


# Intervals


def random_rows(seed: int, pairs: int = 40, chance: float = 0.6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return rows_from(
        {f"{i:03}": list(np.where(rng.random(rng.integers(1, 6)) < chance, 0.0, 50.0)) for i in range(pairs)}
    )


def test_interval_holds_the_value_and_depends_on_seed_but_not_on_row_order():
    rows = random_rows(0)

    interval = bootstrap_interval(rows, 0.1, seed=3, n=200)

    assert interval.value == pck(rows, 0.1)
    assert interval.low < interval.value < interval.high
    assert bootstrap_interval(rows.sample(frac=1, random_state=1), 0.1, seed=3, n=200) == interval
    assert bootstrap_interval(rows, 0.1, seed=4, n=200) != interval


def test_draws_in_parts_are_the_same_draws(monkeypatch: pytest.MonkeyPatch):
    rows = random_rows(0)
    whole = bootstrap_interval(rows, 0.1, average="point", n=100)
    monkeypatch.setattr("sd4match_lib.metrics.bootstrap.MAX_DRAWS", 7 * 40)

    assert bootstrap_interval(rows, 0.1, average="point", n=100) == whole


def test_interval_covers_the_true_rate_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        hits = rng.random(60) < 0.6
        rows = pd.DataFrame(
            {"pair_id": range(60), "distance_in": np.where(hits, 0.0, 50.0), "theta_in": np.full(60, 100.0)}
        )
        interval = bootstrap_interval(rows, 0.1, n=200)
        covered += interval.low <= 0.6 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_one_pair_has_a_value_and_no_interval():
    interval = bootstrap_interval(rows_from({"p": [0.0, 50.0]}), 0.1, n=10)

    assert interval.value == 0.5
    assert np.isnan([interval.low, interval.high]).all()


def test_paired_difference_is_sharper_than_two_intervals():
    worse = random_rows(0, pairs=80, chance=0.5)
    better = worse.copy()
    mended = better["distance_in"].gt(10) & (better.index % 6 == 0)
    better.loc[mended, "distance_in"] = 0.0

    difference = paired_difference(better, worse, 0.1, n=300)

    assert difference.value == pytest.approx(pck(better, 0.1) - pck(worse, 0.1))
    assert difference.low > 0
    assert bootstrap_interval(better, 0.1, n=300).low < bootstrap_interval(worse, 0.1, n=300).high
    assert paired_difference(worse, worse, 0.1, n=50) == (0, 0, 0)


def test_paired_difference_refuses_runs_on_other_pairs():
    with pytest.raises(UserError, match="differ in 2 keypoints"):
        paired_difference(rows_from({"p": [0.0]}), rows_from({"q": [0.0]}), 0.1)


# The real PF-Willow


@pytest.mark.skipif(not REAL_WILLOW.is_dir(), reason="the real PF-Willow is not at ../shared/data/pf-willow")
def test_real_willow_stretched_scoring_accepts_0775_of_the_area_of_original_scoring():
    hw_in = (768, 768)
    ratios = []
    for pair in PfWillowDataset(REAL_WILLOW):
        theta_in, theta_px = thresholds(pair, hw_in)
        height, width = pair.trg.hw_px
        ratios.append(theta_in**2 / (theta_px**2 * (768 / width) * (768 / height)))
    assert len(ratios) == 900
    assert np.mean(ratios) == pytest.approx(0.775, abs=0.0015)
