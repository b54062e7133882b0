"""Metrics beyond PCK, on pairs made by hand whose answers are known."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from layouts import write_spair
from test_pck import HW_IN, image, make_pair, rows_from

from sd4match_lib.data.spair import SpairDataset
from sd4match_lib.data.symmetry import Symmetry, read_symmetry, symmetry_rows
from sd4match_lib.data.types import OneSided, Pair, ThresholdRule
from sd4match_lib.errors import DataError, UserError
from sd4match_lib.matching.similarity import pair_scalars
from sd4match_lib.metrics.averages import describe_protocol
from sd4match_lib.metrics.ceiling import grid_ceiling
from sd4match_lib.metrics.errors import error_kinds, error_table, twin_rate
from sd4match_lib.metrics.geometry import geometry_aware
from sd4match_lib.metrics.kap import _average_precision, kap
from sd4match_lib.metrics.keypoints import (
    LATER_COLUMNS,
    keypoint_frame,
    read_keypoints,
    score_pair,
    write_keypoints,
)
from sd4match_lib.metrics.pck import bootstrap_interval, paired_difference, pck
from sd4match_lib.report.study_figures import plot_errors
from sd4match_lib.utils.paths import package_path

SPAIR_KEYPOINTS = {
    "aeroplane": 25, "bicycle": 14, "bird": 17, "boat": 14, "bottle": 10, "bus": 30, "car": 30, "cat": 15,
    "chair": 14, "cow": 21, "dog": 16, "horse": 20, "motorbike": 13, "person": 20, "pottedplant": 9,
    "sheep": 21, "train": 18, "tvmonitor": 16,
}  # fmt: skip
"""One more than the highest keypoint number of each category of SPair-71k."""


def square_pair(trg_px, names="abcdefgh", pair_id="p", only_src=(), only_trg=()) -> Pair:
    """A pair whose frames are the same and whose theta is 100: alpha 0.1 is ten pixels."""
    target = replace(image("b"), hw_px=HW_IN)
    one_sided = OneSided(
        np.array([xy for _, xy in only_src], np.float32).reshape(-1, 2),
        tuple(name for name, _ in only_src),
        np.array([xy for _, xy in only_trg], np.float32).reshape(-1, 2),
        tuple(name for name, _ in only_trg),
    )
    pair = make_pair(trg_px, ThresholdRule.IMAGE, pair_id, trg=target, src=replace(image("a"), hw_px=HW_IN))
    return replace(pair, keypoint_ids=tuple(names[: len(trg_px)]), one_sided=one_sided)


def rows_of(*pairs_and_predictions) -> pd.DataFrame:
    return keypoint_frame(
        row for pair, predicted in pairs_and_predictions for row in score_pair(pair, predicted, HW_IN)
    )


def kinds(trg_px, predicted, alpha=0.1, **options) -> list[str]:
    return error_kinds(rows_of((square_pair(trg_px), predicted)), alpha, **options).tolist()


# Kinds of errors: two target points 30 px apart, tau is 10 px.

APART = [[20, 50], [50, 50]]


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (20, "correct"),
        (30, "correct"),  # on the border of tau
        (34, "jitter"),
        (36, "jitter"),  # nearer to the other one, but not within its tau
        (40, "swap"),  # on the border of the other's tau, and of twice its own
        (50, "swap"),
        (61, "miss"),
        (0, "jitter"),  # on the border of twice tau
    ],
)
def test_every_kind_of_error_and_every_border_by_hand(x, kind):
    assert kinds(APART, [[x, 50], [50, 50]]) == [kind, "correct"]


def test_a_prediction_nearer_to_another_point_is_no_dagger_hit_though_within_tau():
    near = [[20, 50], [28, 50]]
    rows = rows_of((square_pair(near), [[25, 50], [28, 50]]))

    assert error_kinds(rows, 0.1).tolist() == ["swap", "correct"]
    table = error_table({"m": rows}, 0.1)
    assert table["PCK"].item().value == 1 and table["correct"].item().value == 0.5
    assert sum(table[kind].item().value for kind in ("correct", "jitter", "swap", "miss")) == 1


def test_two_points_at_one_place_are_both_found_there():
    assert kinds([[20, 50], [20, 50]], [[20, 50], [21, 50]]) == ["correct", "correct"]


def test_only_points_of_the_same_pair_can_be_swapped_with():
    first, second = square_pair([[20, 50]], pair_id="p"), square_pair([[60, 50]], pair_id="q")
    rows = rows_of((first, [[60, 50]]), (second, [[60, 50]]))
    assert error_kinds(rows, 0.1).tolist() == ["miss", "correct"]


def test_errors_are_measured_in_the_frame_that_is_asked_for():
    # The target is 200 x 50 px: 20 px of its width are 10 px of the input, 5 px of its height are 10 px.
    pair = make_pair([[100, 25]], ThresholdRule.IMAGE)
    rows = keypoint_frame(score_pair(pair, [[50, 61]], HW_IN))
    assert error_kinds(rows, 0.1).tolist() == ["jitter"]
    assert error_kinds(rows, 0.1, frame="px").tolist() == ["correct"]


def test_rows_of_an_older_version_are_read_and_say_what_they_lack(tmp_path: Path):
    path = tmp_path / "keypoints.parquet"
    old = rows_of((square_pair(APART), APART)).drop(columns=list(LATER_COLUMNS))
    old.to_parquet(path)

    rows = read_keypoints(path)
    assert pck(rows, 0.1) == 1 and error_kinds(rows, 0.1, frame="px").tolist() == ["correct"] * 2
    with pytest.raises(UserError, match="stored without the points in the frame 'in': evaluate again"):
        error_kinds(rows, 0.1)
    with pytest.raises(UserError, match="hold no similarities"):
        kap(rows)
    with pytest.raises(UserError, match="do not say where the grid's cells lie"):
        grid_ceiling(rows, 0.1)


# Keypoints that one picture alone shows


def test_one_sided_keypoints_are_stored_and_count_in_no_pck(tmp_path: Path):
    pair = square_pair(APART, "ab", only_src=[("hidden", (3, 4))], only_trg=[("new", (70, 80))])
    rows = rows_of((pair, [[20, 50], [0, 0]]))
    write_keypoints(rows, tmp_path / "keypoints.parquet")

    pd.testing.assert_frame_equal(read_keypoints(tmp_path / "keypoints.parquet"), rows)
    assert rows["keypoint"].tolist() == ["a", "b", "hidden", "new"]
    assert rows["distance_in"].notna().tolist() == [True, True, False, False]
    assert rows[["src_x_px", "src_y_px"]].iloc[2].tolist() == [3, 4] and rows["trg_x_px"].isna().iloc[2]
    assert rows[["trg_x_in", "trg_y_in"]].iloc[3].tolist() == [70, 80] and rows["src_x_px"].isna().iloc[3]
    assert pck(rows, 0.1) == 0.5
    assert paired_difference(rows, rows_of((square_pair(APART, "ab"), APART)), 0.1).value == -0.5


def test_spair_says_which_keypoints_one_picture_alone_shows(tmp_path: Path):
    root = write_spair(tmp_path, [("a", "b", "cat")])
    assert SpairDataset(root, "test")[0].one_sided is None
    folder = root / "ImageAnnotation" / "cat"
    folder.mkdir(parents=True)
    shared = {"0": [10, 20], "4": [30, 12], "11": [59, 39]}
    (folder / "a.json").write_text(
        str({"kps": {**shared, "7": [1, 2], "8": "None"}}).replace("'", '"').replace('"None"', "null")
    )
    (folder / "b.json").write_text(str({"kps": {**shared, "8": [5, 6], "2": [7, 8]}}).replace("'", '"'))

    dataset = SpairDataset(root, "test")
    only = dataset[0].one_sided
    assert only.src_ids == ("7",) and only.src_px.tolist() == [[1, 2]]
    assert only.trg_ids == ("8", "2") and only.trg_px.tolist() == [[5, 6], [7, 8]]
    before = dataset.fingerprint()
    (folder / "b.json").write_text('{"kps": {}}')
    assert SpairDataset(root, "test").fingerprint() != before
    (folder / "a.json").unlink()
    with pytest.raises(DataError, match=r"a\.json: there is no such file"):
        SpairDataset(root, "test")[0]


# Symmetry


def test_the_table_of_spair_fits_its_keypoints_and_is_symmetric():
    symmetry = read_symmetry(package_path("data/symmetry_spair.csv"))
    named = {*symmetry.groups, *symmetry.twins}
    assert {category for category, _ in named} == set(SPAIR_KEYPOINTS)
    for category, keypoint in named:
        assert int(keypoint) < SPAIR_KEYPOINTS[category]
        twin = symmetry.twin(category, keypoint)
        assert twin is None or symmetry.group(category, twin) == symmetry.group(category, keypoint)
    sizes = pd.Series(list(symmetry.groups.items())).map(lambda item: (item[0][0], item[1])).value_counts()
    assert sizes.min() >= 2
    assert symmetry.group("cat", "9") == symmetry.group("cat", "12") == "paw"
    assert symmetry.twin("bus", "10") == "20" and symmetry.group("bus", "8") is None


def test_ap10ks_table_holds_for_every_species():
    symmetry = read_symmetry(package_path("data/symmetry_ap10k.csv"))
    assert symmetry.twin("bison", "left_eye") == "right_eye" and symmetry.group("bison", "left_eye") is None
    assert symmetry.group("dog", "left_elbow") == symmetry.group("dog", "right_knee")


def test_names_imply_groups_and_twins(tmp_path: Path):
    names = ["left front foot", "right front foot", "left back foot", "right back foot", "nose", "left horn"]
    path = tmp_path / "table.csv"
    lines = symmetry_rows("cow", {str(number): name for number, name in enumerate(names)})
    path.write_text("category,keypoint,group,twin\n" + "\n".join(lines) + "\n")

    symmetry = read_symmetry(path)
    assert {symmetry.group("cow", str(number)) for number in range(4)} == {"foot"}
    assert [symmetry.twin("cow", str(number)) for number in range(6)] == ["1", "0", "3", "2", None, None]
    assert symmetry.group("cow", "4") is None and symmetry.group("cow", "5") is None
    path.write_text("category,keypoint,group,twin\ncow,0,foot,1\ncow,1,foot,2\n")
    with pytest.raises(DataError, match="keypoint '0' of cow has the twin '1', whose twin is another one"):
        read_symmetry(path)
    path.write_text("category,keypoint,group,twin\ncow,0,foot,\ncow,0,paw,\n")
    with pytest.raises(DataError, match="line 3: keypoint '0' of cow is there twice"):
        read_symmetry(path)


PAWS = Symmetry(
    {("*", name): "paw" for name in "abx"},
    {("*", "a"): "b", ("*", "b"): "a", ("*", "c"): "x", ("*", "x"): "c"},
)


def test_the_geometry_aware_subset_counts_what_the_target_shows():
    both = square_pair([[20, 50], [50, 50], [80, 50]], "abc", "both")
    alone = square_pair([[20, 50], [80, 50]], "ac", "alone")
    with_target = square_pair([[20, 50]], "a", "with target", only_trg=[("x", (90, 90))])
    with_source = square_pair([[20, 50]], "a", "with source", only_src=[("x", (90, 90))])
    rows = rows_of(*((pair, pair.trg_px) for pair in (both, alone, with_target, with_source)))

    chosen = geometry_aware(rows, PAWS).dropna(subset="distance_in")
    assert chosen[["pair_id", "keypoint"]].values.tolist() == [
        ["both", "a"], ["both", "b"], ["with target", "a"],
    ]  # fmt: skip
    with pytest.raises(UserError, match="has a like that its target shows"):
        geometry_aware(rows, Symmetry({}, {}))


def test_the_twin_rate_asks_keypoints_whose_twin_is_to_be_seen():
    # a falls on b (10 px from it: the border), b on itself, c on its twin x that the source does not show.
    pair = square_pair([[20, 50], [50, 50], [80, 50]], "abc", only_trg=[("x", (80, 90))])
    rows = rows_of((pair, [[40, 50], [50, 50], [80, 85]]))
    assert twin_rate(rows, PAWS, 0.1).value == pytest.approx(2 / 3)
    assert twin_rate(rows, PAWS, 0.099).value == pytest.approx(1 / 3)
    assert twin_rate(rows, PAWS, 0.1, average="point", frame="px").value == pytest.approx(2 / 3)
    # Between two twins it falls on the nearer one.
    near = rows_of((square_pair([[20, 50], [28, 50]], "ab"), [[23.9, 50], [28, 50]]))
    assert twin_rate(near, PAWS, 0.1).value == 0
    assert error_table({"m": rows}, symmetry=PAWS)["twin"].item().value == pytest.approx(2 / 3)
    assert np.isnan(twin_rate(rows_of((square_pair([[20, 50]], "a"), [[20, 50]])), PAWS, 0.1)).all()


def test_errors_are_drawn_as_bars_of_length_one():
    rows = rows_of((square_pair(APART), [[50, 50], [50, 50]]))
    table = error_table({"worse": rows, "better": rows_of((square_pair(APART), APART))}, 0.1)
    (axes,) = plot_errors(table, title="failures").axes
    widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    assert np.allclose(widths.sum(0), 1) and widths[:, 0].tolist() == [0.5, 0, 0.5, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["worse", "better"]
    plt.close("all")


# Averages


def test_macro_is_the_mean_of_the_categories_means_over_images():
    rows = rows_from(
        {"p": [0.0], "q": [0.0, 50.0], "r": [50.0, 50.0, 0.0]}, category={"p": "cat", "q": "cat", "r": "dog"}
    )
    assert pck(rows, 0.1, average="macro") == pytest.approx((0.75 + 1 / 3) / 2)
    assert bootstrap_interval(rows, 0.1, average="macro", n=50).value == pytest.approx((0.75 + 1 / 3) / 2)
    assert pck(rows, 0.1) == pytest.approx((1 + 0.5 + 1 / 3) / 3)
    assert "mean over categories (macro)" in describe_protocol(average="macro")


# What features leave behind


def cells(side: int = 5) -> torch.Tensor:
    """Centres 20 px apart in an input of 81 x 81 pixels."""
    axis = torch.arange(side, dtype=torch.float64) * 20
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


def test_scalars_of_a_score_map_by_hand():
    scores = torch.zeros(2, 5, 5)
    scores[0, 2, 3], scores[0, 0, 0] = 1.0, 0.5  # at (60, 40) and (0, 0)
    scores[1, 4, 4], scores[1, 0, 1] = -1.0, 0.2
    truth = torch.tensor([[53.0, 40.0], [20.0, 1.0]])

    found = pair_scalars(scores, cells(), truth, theta_in=100.0)
    # Similarities from -1 to 1 become 0 to 1.
    assert found[:, 0].tolist() == [7.0, 1.0]
    assert found[:, 1].tolist() == pytest.approx([1.0, 0.6])
    assert found[:, 2].tolist() == pytest.approx([0.75, 0.5])


def test_the_border_is_near_and_a_hidden_keypoint_has_nothing_inside():
    scores = torch.zeros(3, 5, 5)
    scores[:, 0, 0] = 1.0
    truth = torch.tensor([[10.0, 0.0], [10.01, 0.0], [torch.nan, torch.nan]])
    found = pair_scalars(scores, cells(), truth, theta_in=100.0)
    # 10 px are 0.10 theta. Half a hundredth more, and the truth lies nearer to the next cell.
    assert found[0].tolist() == [10.0, 1.0, 0.0]
    assert found[1].tolist() == pytest.approx([9.99, 0.0, 1.0])
    assert found[2].isnan().tolist() == [True, True, False] and found[2, 2] == 1


def test_no_cell_near_enough_leaves_the_nearest_one():
    scores = torch.zeros(1, 5, 5)
    scores[0, 1, 1] = 1.0
    found = pair_scalars(scores, cells(), torch.tensor([[27.0, 20.0]]), theta_in=10.0)
    assert found.tolist() == [[7.0, 1.0, 0.0]]
    assert pair_scalars(torch.ones(1, 5, 5), cells(), torch.zeros(1, 2), 10.0)[0, 1:].tolist() == [0, 0]


def with_similarities(inside, outside, pair_ids=None) -> pd.DataFrame:
    ids = pair_ids or ["p"] * len(inside)
    pictures = {"src_image": [f"{name} left" for name in ids], "trg_image": [f"{name} right" for name in ids]}
    found = {"similarity_inside": inside, "similarity_outside": outside}
    return pd.DataFrame({"pair_id": ids, **pictures, **found})


def test_kap_by_hand_and_a_hidden_keypoint_lowers_it():
    # Falling: 0.9 yes, 0.8 no, 0.7 yes, 0.1 no: precision 1 at the first half of recall, 2 / 3 at the second.
    rows = with_similarities([0.9, 0.7], [0.1, 0.8])
    assert kap(rows).value == pytest.approx((1 + 2 / 3) / 2)
    # A hidden keypoint that is sure of something is a negative above both.
    hidden = with_similarities([0.9, 0.7, np.nan], [0.1, 0.8, 1.0])
    assert kap(hidden).value == pytest.approx((1 / 2 + 2 / 4) / 2)
    # One that finds nothing costs nothing.
    assert kap(with_similarities([0.9, 0.7, np.nan], [0.1, 0.8, 0.0])).value == kap(rows).value
    # Equal values share a threshold, whatever their order.
    assert kap(with_similarities([0.5], [0.5])).value == 0.5


def test_a_pairs_influence_on_kap_is_what_its_weight_changes():
    rng = np.random.default_rng(1)
    # Coarse values, so that some are equal across pairs.
    rows = with_similarities(rng.integers(2, 8, 24) / 8, rng.integers(0, 8, 24) / 8, [*"abcdefgh"] * 3)
    score = np.r_[rows["similarity_inside"], rows["similarity_outside"]]
    positive = np.arange(48) < 24
    value, influence = _average_precision(score, positive)
    assert value == pytest.approx(kap(rows).value) and influence.sum() == pytest.approx(0, abs=1e-12)
    for one in range(0, 48, 5):
        # A weight of 1 + 1 / 1000 is one value more among a thousand copies of all.
        many = np.append(np.tile(score, 1000), score[one])
        moved, _ = _average_precision(many, np.append(np.tile(positive, 1000), positive[one]))
        assert 1000 * (moved - value) == pytest.approx(influence[one], abs=2e-4)


def test_kaps_interval_is_wider_where_pairs_share_pictures():
    rng = np.random.default_rng(0)
    hard = np.repeat(rng.random(6), 10)  # six source pictures, of ten pairs each
    rows = with_similarities(0.6 * hard + 0.2, 0.5 * rng.random(60), [f"{i:02}" for i in range(60)])
    alone, shared = kap(rows), kap(rows.assign(src_image=np.repeat([*"abcdef"], 10)))
    assert shared.value == alone.value and shared.high - shared.low > 1.5 * (alone.high - alone.low)


def test_kaps_interval_does_not_come_from_the_rows_order():
    rng = np.random.default_rng(0)
    rows = with_similarities(rng.random(60) + 0.3, rng.random(60), [f"{i // 3:02}" for i in range(60)])
    interval = kap(rows)
    assert interval.low < interval.value < interval.high
    assert kap(rows.sample(frac=1, random_state=0)) == pytest.approx(interval)
    assert np.isnan(kap(rows[rows["pair_id"] == "00"]).low)


def test_the_ceiling_is_the_share_of_keypoints_with_a_cell_near():
    pair = square_pair([[20, 50], [50, 50]])
    scalars = [[10.0, 1.0, 0.0], [10.5, 1.0, 0.0]]
    rows = keypoint_frame(score_pair(pair, pair.trg_px, HW_IN, scalars))
    assert grid_ceiling(rows, 0.1).value == 0.5
    assert grid_ceiling(rows, 0.105).value == 1
