"""Tables 2 and 3, Figs. 3(a) and 3(b), the claims and the comparison with the paper, from made-up matches."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import layouts
import pandas as pd
import pytest

from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.categories import SPAIR_CATEGORIES
from sd4match_lib.evaluation.evaluate import EvaluationResult, open_pairs
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.keypoints import KEYPOINT_COLUMNS, write_keypoints
from sd4match_lib.report import comparison, conclusions, spair_table, studies, study_figures
from sd4match_lib.report.items import CASES, Compared, Cost, Item
from sd4match_lib.report.tables import markdown_table, write_table
from sd4match_lib.runs.store import open_run


def rows(distances, category="cat", **columns):
    """One keypoint a pair, at these distances in the stretched frame; theta is 10 there and 20 originally."""
    count = len(distances)
    frame = pd.DataFrame(
        {
            "pair_id": [f"{category}{i}" for i in range(count)],
            "category": category,
            "keypoint": "nose",
            "distance_in": [float(d) for d in distances],
            "theta_in": 10.0,
            "distance_px": [float(d) for d in distances],
            "theta_px": 20.0,
            "src_image": [f"{category}/{i}-a" for i in range(count)],
            "trg_image": [f"{category}/{i}-b" for i in range(count)],
            **columns,
        }
    )
    return frame.reindex(columns=list(KEYPOINT_COLUMNS)).astype(KEYPOINT_COLUMNS)


def result(distances, *, trained=False, image_hw=(8, 8), **columns):
    prompt = {"kind": "single", "weights": "abc"} if trained else {"kind": "text"}
    record = SimpleNamespace(seed=0, config={"prompt": prompt, "image_hw": image_hw})
    return of_rows(rows(distances, **columns), record)


def of_rows(frame, record=None):
    record = record or SimpleNamespace(seed=0, config={"prompt": None})
    return EvaluationResult(frame, record, Path(), (0.1,), False)


def test_table_2_groups_methods_as_the_paper_does_and_keeps_its_printed_rows_apart():
    measured = [
        spair_table.Measured("mine", "K", result([0.5, 5])),
        spair_table.Measured("free", "Z", result([0.5, 0.5, 0.5, 5])),
    ]
    table = spair_table.spair_table(measured, 0.1)
    assert "".join(table["group"]) == "".join(sorted(table["group"], key="ZIK".index))
    assert list(table.columns) == ["method", "all", "group", *SPAIR_CATEGORIES, "published"]
    named = table.set_index("method")
    assert list(named.index[:5]) == ["DINO", "DINOv2", "DIFT", "SD+DINO", "free"]
    assert table["published"].tolist()[3:5] == [True, False]
    assert named.index[-1] == "mine" and named.loc["SD4Match-CPM", "cat"] == 0.826
    assert named.loc["free", "cat"] == 0.75 and pd.isna(named.loc["free", "dog"])
    assert named.loc["mine", "all"].value == 0.5
    here, printed = markdown_table(table, "caption", percent=[*SPAIR_CATEGORIES, "all"]).split("\n† ")
    assert "†" not in here and "| free | 75.0 [" in here and "| mine |" in here
    assert "| *SD4Match-CPM †* | *75.5* | *K* | *75.3* |" in printed and "mine" not in printed
    assert "**" not in here + printed


def test_a_method_with_several_trainings_is_their_mean():
    by_seed = {0: result([0, 0, 5, 5], trained=True), 1: result([0, 0, 0, 0], trained=True)}
    table = spair_table.spair_table([spair_table.Measured("mine", "K", by_seed)], 0.1)
    assert table["all"].iloc[-1].value == table["cat"].iloc[-1] == 0.75


def test_the_newest_score_of_a_system_on_the_whole_split_joins_table_2(tmp_path):
    root = layouts.write_spair(tmp_path / "spair", [("a", "b", "cat"), ("b", "a", "cat")])
    mini = load_profile("mini")
    spair = dataclasses.replace(mini.dataset("spair"), root=str(root))
    profile = dataclasses.replace(mini, results_dir=str(tmp_path), datasets={"spair": spair})

    def save(number, dataset, method, started, max_pairs=None):
        pairs = open_pairs(profile, "spair", "test", None, max_pairs)
        config = {"dataset": dataset, "split": "test", "method": method, "supervision": "I", "number": number}
        inputs = {"data": pairs.fingerprint()}
        run = open_run(tmp_path, f"run{number}", "score", config, inputs, profile="mini")
        with run:
            write_keypoints(rows([number] * len(pairs)), run.output("keypoints.parquet"))
        run.record.started = started
        run.record.write(run.folder / "run.json")

    save(0, "spair", "NCNet", "2026-02")
    save(1, "spair", "NCNet", "2026-01")
    save(2, "pf_willow", "CATs", "2026-03")
    save(3, "spair", "DINOv2", "2026-04", max_pairs=1)  # the README's example: a slice is no row of Table 2
    (found,) = spair_table.scored_methods(profile)
    assert (found.name, found.group) == ("NCNet", "I")
    assert found.results.keypoints["distance_in"].tolist() == [0, 0]
    own = spair_table.Measured("NCNet", "K", result([5]))
    table = spair_table.spair_table([own, found], 0.1)
    names = table["method"][~table["published"]]
    assert names.tolist() == ["NCNet (scored)", "NCNet"]
    table = spair_table.spair_table([found], 0.1)
    assert "NCNet" in set(table["method"][~table["published"]])


def test_difficulty_has_words_for_its_levels_and_one_row_per_method():
    flags = {"viewpoint": [0, 2, 2], "scale": 1, "truncation": [3, 0, 0], "occlusion": 2}
    runs = {"A": result([0, 0, 5], **flags), "B": result([5, 5, 5], **flags)}
    table = spair_table.difficulty_table(runs, 0.1)
    cells = {
        (row["flag"], row["level"], row["method"]): (row["pairs"], row["PCK@0.10"].value)
        for row in table.to_dict("records")
    }
    assert cells["viewpoint", "hard", "A"] == (2, 0.5) and cells["viewpoint", "easy", "B"] == (1, 0)
    assert cells["truncation", "both", "A"] == (1, 1) and cells["occlusion", "target", "A"] == (3, 2 / 3)
    figure = study_figures.plot_difficulty(table, "PCK@0.10", title="Hard")
    levels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "viewpoint: easy (1 pair)" in levels and "viewpoint: hard (2 pairs)" in levels
    # A dot a level and method.
    assert len([line for line in figure.axes[0].lines if line.get_marker() in "os"]) == len(table)


def test_the_paper_is_best_in_each_category_by_one_of_its_prompts():
    best = spair_table.best_printed(["SD4Match-Single", "SD4Match-Class", "SD4Match-CPM"])
    assert set(best) == set(SPAIR_CATEGORIES)
    told = [best[category] for category in ("bird", "pottedplant", "sheep")]
    assert told == ["SD4Match-Class", "SD4Match-Single", "SD4Match-CPM"]


def test_categories_stand_by_gain_in_their_groups():
    def run(**distances):
        return of_rows(pd.concat([rows(d, name) for name, d in distances.items()], ignore_index=True))

    runs = {"A": run(cat=[5, 5], dog=[5, 5], car=[0, 5]), "B": run(cat=[0, 5], dog=[0, 0], car=[5, 5])}
    table = spair_table.category_table(runs, 0.1)
    figure = study_figures.plot_categories(table, "PCK@0.10", better="B", worse="A", title="Categories")
    shown = {
        axes.get_title(loc="left"): [label.get_text() for label in axes.get_yticklabels()]
        for axes in figure.axes
    }
    assert shown == {"animals and person": ["dog", "cat"], "vehicles": ["car"], "all pairs": ["all"]}
    gains = spair_table.category_gains(runs["B"], runs["A"]).set_index("category")["gain"]
    assert {name: gain.value for name, gain in gains.items()} == {"car": -0.5, "cat": 0.5, "dog": 1.0}


def test_the_six_protocols_are_six_numbers():
    three = pd.concat([rows([0.9, 3, 3], "cat"), rows([1.5, 1.9], "dog")])
    three["pair_id"] = ["p", "p", "p", "q", "r"]
    three["keypoint"] = ["a", "b", "c", "a", "a"]
    table = spair_table.protocol_table(three, [0.1])
    # Stretched: right is 0.9 of 10. Original: 0.9, 1.5 and 1.9 of 20. Per image, per point, macro.
    values = [cell.value for cell in table["PCK@0.10"]]
    assert values == pytest.approx([1 / 9, 7 / 9, 1 / 5, 3 / 5, 1 / 6, 2 / 3])
    assert table["protocol"].str.contains("original").tolist() == [False, True] * 3
    assert table["protocol"].str.contains("macro").tolist() == [False] * 4 + [True] * 2


def test_table_3_says_how_many_of_the_paper_s_numbers_are_missing_and_where_measured_ones_belong():
    tuned = studies.Tuned("SD4Match-CPM", "spair", {"pf_willow": result([0.4, 0.9, 1.4, 9])})
    table = studies.generalisation_table([tuned], (0.05, 0.1, 0.15))
    printed, own = table[table["published"]], table[~table["published"]].iloc[0]
    assert len(printed) == 7 and printed.filter(like="@").isna().all(axis=None)
    assert printed["tuned on"].tolist() == [
        "-",
        "-",
        "PF-Pascal",
        "PF-Pascal",
        "PF-Pascal",
        *["SPair-71k"] * 2,
    ]
    assert own["method"] == "SD4Match-CPM" and own["tuned on"] == "SPair-71k"
    values = [own[f"PF-Willow @{alpha}"].value for alpha in ("0.05", "0.10", "0.15")]
    assert values == [0.25, 0.5, 0.75] and pd.isna(own["PF-Pascal @0.10"])
    text = markdown_table(table, "caption", percent=[column for column in table if "@" in column])
    assert "SimSC" not in text and "7 rows of the paper are not shown" in text and "published.csv" in text


def test_the_ablation_compares_the_same_pairs_with_the_first_case():
    results = dict(zip(CASES[:2], (result([0, 0, 5, 5]), result([0, 5, 5, 5])), strict=True))
    starts = dict.fromkeys(CASES[:2], result([5, 5, 5, 5]))
    table = studies.ablation_table(results, starts)
    assert table["against the first"][0] is None and table["against the first"][1].value == -0.25
    assert [cell.value for cell in table["gain by learning"]] == [0.5, 0.25]
    assert table[studies.PAPER].tolist() == [0.755, 0.733]


def test_the_ablation_is_drawn_as_differences_to_the_first_with_the_papers_hollow():
    results = dict(zip(CASES[:3], (result([0, 0]), result([0, 5]), result([0, 0])), strict=True))
    figure = study_figures.plot_ablation(
        studies.ablation_table(results, dict.fromkeys(CASES[:3], result([5, 5]))), title="t"
    )
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CASES[1:3])
    dots = {
        (round(float(line.get_xdata()[0]), 3), line.get_markerfacecolor() == "white")
        for line in axes.lines
        if line.get_marker() in ("o", "D")
    }
    assert dots == {(-0.5, False), (0.0, False), (-0.022, True), (-0.047, True)}
    assert axes.get_xlabel() == "PCK@0.10 against case 1 pair, local (CPM), points (lines: 95 % interval)"


def test_what_learning_gave_at_home_and_abroad_is_against_the_own_start():
    runs = {("CPM, start", "", name): result([0, 5, 5, 5]) for name in ("pf_pascal", "spair")}
    runs |= {("CPM", "pf_pascal", "pf_pascal"): result([0, 0, 5, 5])}
    runs |= {("CPM", "pf_pascal", "spair"): result([5, 5, 5, 5])}
    table = studies.travel_table(runs)
    assert table["home"].tolist() == [True, False]
    assert [gain.value for gain in table["gain by learning"]] == [0.25, -0.25]
    told = conclusions.what_travels(table)
    assert told.startswith("On its own data set learning gave +25.0 points")
    assert "On another data set learning gave -25.0 points" in told


def test_a_tuning_abroad_is_compared_with_the_one_at_home_on_the_same_pairs():
    runs = {("CPM, start", "", "spair"): result([0, 5, 5, 5]), ("DIFT", "", "spair"): result([0, 0, 0, 5])}
    runs |= {
        ("CPM", "pf_pascal", "spair"): result([0, 0, 0, 5]),
        ("CPM", "spair", "spair"): result([0, 5, 5, 5]),
    }
    runs |= {("CPM", "spair", "pf_willow"): result([5, 5])}
    table = studies.abroad_over_home(runs)
    assert table[["method", "tuned on", "tested on"]].values.tolist() == [["CPM", "PF-Pascal", "SPair-71k"]]
    assert table["difference"].iloc[0].value == 0.5
    told = conclusions.which_tuning_serves(table)
    assert (
        told.startswith("CPM, tuned on PF-Pascal, has +50.0 points") and "on SPair-71k over the same" in told
    )


def test_table_3_has_a_colour_a_method_and_a_mark_a_tuning_set():
    sets = dict.fromkeys(studies.DATASETS, result([0, 5]))
    methods = [studies.Tuned("DIFT", "", sets), studies.Tuned("CPM, start", "", sets)]
    methods += [studies.Tuned("CPM", name, sets) for name in ("pf_pascal", "spair")]
    figure = study_figures.plot_generalisation(studies.generalisation_rows(methods), "PCK@0.10", title="t")
    handles = figure.legends[0].legend_handles
    found = [(one.get_label(), one.get_color(), one.get_marker()) for one in handles]
    labels, colours, marks = zip(*found, strict=True)
    assert labels == ("DIFT", "CPM, start", "CPM, tuned on PF-Pascal", "CPM, tuned on SPair-71k")
    assert colours[1] == colours[2] == colours[3] != colours[0] and len(set(marks[1:])) == 3
    assert handles[1].get_markerfacecolor() == "white"


def test_a_sweep_has_a_panel_a_method_with_its_start_and_common_axes():
    results = {(name, t): result([0, 5]) for name in ("DIFT", "CPM", "CPM, start") for t in (0, 50)}
    curves = studies.sweep_table(results)
    figure = study_figures.plot_sweep(
        curves, "PCK@0.10", starts={"CPM": "CPM, start"}, marks={50: "test"}, title="t"
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["DIFT", "CPM"]
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["untrained", "learned"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_starts_are_compared_with_random_words_and_with_themselves():
    runs = {("single", "random"): result([0, 5, 5, 5]), ("single", "empty"): result([0, 0, 0, 5])}
    starts = {("single", "random"): result([0, 5, 5, 5]), ("single", "empty"): result([0, 0, 5, 5])}
    table = studies.initialisation_table(runs, starts)
    assert table["against random"][0] is None and table["against random"][1].value == 0.5
    assert [cell.value for cell in table["gain by learning"]] == [0, 0.25]


def test_sizes_are_named_in_pixels_and_compared_with_the_native_one():
    sizes = {
        0.5: result([5, 5], image_hw=(4, 4)),
        1.0: result([0, 5]),
        2.0: result([0, 0], image_hw=(16, 16)),
    }
    table = studies.size_table(sizes)
    assert table["size"].tolist() == ["4 x 4", "8 x 8", "16 x 16"]
    assert [cell and cell.value for cell in table["against native"]] == [-0.5, None, 0.5]


def test_the_best_timestep_is_the_highest_and_its_gain_is_paired():
    results = {("A", 0): result([0, 5, 5]), ("A", 261): result([0, 5, 0]), ("A", 50): result([0, 0, 0])}
    results |= {("B", t): result([0, 5, 5]) for t in (0, 50, 261)}
    best = studies.best_timesteps(results, 261).set_index("method")
    assert best["best t"].tolist() == [50, 0]
    assert best.loc["A", "against t = 261"].value == pytest.approx(1 / 3)
    assert best.loc["B", "against t = 261"].value == 0
    assert studies.sweep_table(results)["t"].tolist() == [0, 261, 50, 0, 50, 261]


@pytest.fixture
def compared(tmp_path):
    printed, found = Interval(0.529, math.nan, math.nan), Interval(0.54, 0.53, 0.55)
    frame = pd.DataFrame({"method": ["DIFT"] * 2, "all": [printed, found], "published": [True, False]})
    write_table(frame, tmp_path / "tables", "t", "caption")
    entries = tuple(
        Compared(name, "t", (("method", name),), "all", ("table2", name)) for name in ("DIFT", "DINO")
    )
    return Item("Table", "says", "05_x", ("t",), compared=entries)


@pytest.mark.parametrize(("profile", "verdict"), [("paper", "inside ±1.5"), ("mini", None)])
def test_a_difference_from_the_paper_is_judged_only_on_the_paper_s_test_split(
    compared, tmp_path, profile, verdict
):
    settings = dataclasses.replace(load_profile(profile), name="x", results_dir=str(tmp_path))
    table = comparison.compare_item(compared, settings)
    assert table["what"].tolist() == ["DIFT"] and table["paper"][0] == 0.529
    if verdict is None:
        assert list(table) == ["what", "measured", "paper"]
    else:
        assert table["difference"][0] == pytest.approx((0.011, 0.001, 0.021))
        assert table["verdict"][0] == verdict


def test_a_slice_of_the_paper_s_split_is_not_the_paper_s_split():
    paper = load_profile("paper")
    slice_of = dataclasses.replace(paper.datasets["spair"], max_pairs={"test": 10})
    part = dataclasses.replace(paper, datasets={**paper.datasets, "spair": slice_of})
    assert comparison.is_comparable(paper, "spair") and not comparison.is_comparable(part, "spair")


def test_costs_add_up():
    one = comparison.gpu_hours(Cost(trainings=1))
    assert comparison.gpu_hours(Cost(trainings=2, pair_runs=1)) > 2 * one > 2


def test_willow_is_split_by_what_spair_has():
    both = pd.concat([rows([0.5], "car(G)"), rows([0.5, 5], "duck(S)"), rows([5], "winebottle(M)")])
    whole = SimpleNamespace(keypoints=both, record=SimpleNamespace(seed=0, config={}))
    parts = studies.by_willow_kind({"text": whole, "learned": {3: whole}})
    assert list(parts) == [
        (place, name) for place in ("in SPair-71k", "not in SPair-71k") for name in ("text", "learned")
    ]
    assert parts["in SPair-71k", "text"].keypoints["category"].unique().tolist() == ["car(G)"]
    assert len(parts["not in SPair-71k", "learned"][3].keypoints) == 3
