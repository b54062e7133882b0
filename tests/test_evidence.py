"""What keeps results honest: captions from records, the report's first words, reruns, archives, controls."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import write_profile

from sd4match_lib.analysis.controls import category_names_prompt, with_random_unet
from sd4match_lib.analysis.localisation import map_measures
from sd4match_lib.cli import main as cli
from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.shuffled import ShuffledPairs
from sd4match_lib.errors import UserError
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.keypoints import KEYPOINT_COLUMNS, write_keypoints
from sd4match_lib.metrics.pck import pck
from sd4match_lib.report.archive import write_archive
from sd4match_lib.report.captions import Training, describe_runs
from sd4match_lib.report.claims import Verdict, write_claims
from sd4match_lib.report.page import report_summary, write_report
from sd4match_lib.report.repeated import repeated_numbers
from sd4match_lib.report.rerun import compare_results, summarise_rerun
from sd4match_lib.report.tables import write_table
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import open_run

NAN = float("nan")


@pytest.fixture
def profile(tmp_path):
    return dataclasses.replace(load_profile("mini"), name="x", results_dir=str(tmp_path / "results"))


# Captions


def record(**config):
    base = {"dataset": "spair", "split": "test", "pairs": 108, "image_hw": [8, 8], "method": "sd"}
    base |= {"matcher": "nn", "timestep": 50, "ensemble": 1}
    return SimpleNamespace(kind="evaluate", seed=config.pop("seed", 0), config={**base, **config}, metrics={})


def test_a_caption_names_what_the_records_say():
    learned = record(prompt={"kind": "single", "weights": "a"})
    dift = record(method="dift", timestep=261, ensemble=8, prompt={"kind": "text"})
    assert describe_runs([learned, dift], {"a": Training(30, 4)}) == (
        "108 test pairs of spair; sd: nn, t = 50, ensemble 1; dift: nn, t = 261, ensemble 8; "
        "learned prompts: 30 steps, training seed 4; seed 0"
    )


def test_a_caption_tells_what_differs_and_says_nothing_of_nothing():
    sizes = [record(image_hw=[side, side], seed=side, pairs=side) for side in (8, 16)]
    told = describe_runs(sizes)
    assert "8 test pairs of spair; 16 test pairs of spair" in told
    assert "network inputs 8 x 8, 16 x 16" in told and told.endswith("seeds 8, 16")
    start = record(prompt={"kind": "single", "weights": "a"})
    assert "untrained starts, training seed 1" in describe_runs([start], {"a": Training(0, 1)})
    assert describe_runs([]) == ""


# The report


def claims_frame(**changes):
    row = {"claim": "c", "source": "s", "paper": NAN, "control": False, "trainings": 0}
    row |= {"difference": 0.1, "low": 0.05, "high": 0.15, "p": 1e-4, "for": True, "p_excluded": NAN}
    return {**row, **changes}


def test_the_report_begins_with_what_holds_what_does_not_and_what_cannot_be_told(profile):
    lines = [claims_frame(claim="one"), claims_frame(claim="two", **{"for": False})]
    lines += [claims_frame(claim="three", p=0.9), claims_frame(claim="four", trainings=1)]
    lines += [claims_frame(claim="five", p=0.9, paper=0.3, p_excluded=1e-4)]
    lines += [claims_frame(claim="nothing", control=True, p=0.9)]
    write_claims(pd.DataFrame(lines), profile.results_path / "tables", "05")
    text = write_report(profile)[0].read_text(encoding="utf-8")
    first = text.split("| of the paper |")[0]
    assert "no evidence for what Stable Diffusion knows" in first
    assert "**Holds here** (1 of 5 claims): one." in first
    assert "**Does not hold here** (2 of 5 claims): two; five." in first
    assert "**Cannot be told here** (2 of 5 claims): three; four." in first
    assert "PROFILE=overnight" in first and "as they must: all 1." in first
    assert f"| nothing | {Verdict.NOTHING} |" in text and "leaning" not in text


def test_the_report_says_how_long_runs_took_when_they_were_made(profile):
    root = profile.results_path
    for run, wall_s in (("a-1", 90), ("b-2", 30), ("c-3", 1000)):
        RunRecord(run, run, "evaluate", "x", {}, {}, 0, wall_s=wall_s).write(root / "runs" / run / "run.json")
    stem = "01_prompt_baselines"
    config = {"runs": ["a-1", "b-2", "gone-4"]}
    made = RunRecord(stem, stem, "notebook", "x", config, {}, 0, status="complete", wall_s=5)
    made.write(root / "notebooks" / f"{stem}.json")
    text = write_report(profile)[0].read_text(encoding="utf-8")
    assert f"| measured | 2 min 00 s | [{stem}](notebooks/{stem}.ipynb) |" in text


def test_the_summary_counts_claims_by_source_and_repeats_none_of_the_tables(profile):
    lines = [claims_frame(claim="one", source="Table 2"), claims_frame(claim="two", source="Table 2", p=0.9)]
    lines += [claims_frame(claim="nothing", control=True, p=0.9)]
    write_claims(pd.DataFrame(lines), profile.results_path / "tables", "05")
    told = report_summary(profile)
    assert "**Holds here** (1 of 2 claims): one." in told
    assert f"| source | {Verdict.AGREES} | {Verdict.UNDECIDED} |" in told and "| Table 2 | 1 | 1 |" in told
    assert "**The paper:**" not in told and "](notebooks/" not in told


def test_a_control_that_finds_something_is_on_the_first_screen(profile):
    write_claims(
        pd.DataFrame([claims_frame(claim="noise", control=True)]), profile.results_path / "tables", "05"
    )
    first = write_report(profile)[0].read_text(encoding="utf-8").split("| of the paper |")[0]
    assert "finds something where there is nothing:** noise" in first


def test_a_number_that_differs_between_tables_is_listed(profile):
    tables = profile.results_path / "tables"
    for name, key, value in (("table2_spair", "method", 0.443), ("figure3a_ablation", "case", 0.468)):
        label = {"method": "SD4Match-CPM", "case": "1 pair, local (CPM)"}[key]
        column = {"method": "all", "case": "PCK@0.10"}[key]
        write_table(pd.DataFrame({key: [label], column: [Interval(value, NAN, NAN)]}), tables, name, "c")
    found = repeated_numbers(profile)
    assert found["number"].unique().tolist() == ["CPM on SPair-71k"] and found["value"].tolist() == [
        0.443,
        0.468,
    ]
    assert "One number, several values" in write_report(profile)[0].read_text(encoding="utf-8")
    write_table(
        pd.DataFrame({"case": ["1 pair, local (CPM)"], "PCK@0.10": [Interval(0.4431, NAN, NAN)]}),
        tables,
        "figure3a_ablation",
        "c",
    )
    assert repeated_numbers(profile).empty


# Reruns and archives


def test_a_rerun_is_compared_number_by_number(tmp_path, capsys):
    for place, value in (("a", 0.40), ("b", 0.47)):
        frame = pd.DataFrame(
            {
                "method": ["x", "y"],
                "PCK": [Interval(value, value - 0.05, value + 0.05), Interval(0.2, 0.1, 0.3)],
                "pairs": [9, 9],
            }
        )
        write_table(frame, tmp_path / place / "tables", "t", "c")
    numbers = compare_results(tmp_path / "a", tmp_path / "b")
    assert numbers["row"].tolist() == ["x", "y"] and numbers["moved"].tolist() == pytest.approx([0.07, 0])
    summary = summarise_rerun(numbers).set_index("table").loc["all"]
    assert (summary["numbers"], summary["same"], summary["beyond the interval"]) == (2, 1, 1)
    assert summary["most moved"] == pytest.approx(0.07)
    places = [str(tmp_path / place) for place in "ab"]
    assert cli.main(["rerun", *places, "--out", str(tmp_path)]) == 0
    assert "| all | 2 | 1 | 3.5 | 7.0 | 1 |" in capsys.readouterr().out
    assert (tmp_path / "rerun.md").is_file() and (tmp_path / "rerun.csv").is_file()
    with pytest.raises(UserError, match="no table in common"):
        compare_results(tmp_path / "a", tmp_path / "nowhere")


def test_an_archive_gives_every_run_s_pck_again(profile):
    rng = np.random.default_rng(0)
    for number in range(2):
        frame = pd.DataFrame(
            {
                "pair_id": np.repeat([f"p{i}" for i in range(20)], 3),
                "category": "cat",
                "keypoint": [str(i % 3) for i in range(60)],
                "src_image": "a",
                "trg_image": np.repeat([f"b{i}" for i in range(20)], 3),
                "distance_in": [0.4, 0.6, 0.2, *rng.random(57)],  # of 4: exactly 0.1, 0.15 and 0.05
                "theta_in": 4.0,
            }
        ).reindex(columns=list(KEYPOINT_COLUMNS))
        rows = frame.astype(
            {name: kind for name, kind in KEYPOINT_COLUMNS.items() if frame[name].notna().any()}
        )
        config = {"dataset": "spair", "split": "test", "number": number}
        run = open_run(profile.results_path, f"run{number}", "evaluate", config, {}, profile="x")
        with run:
            write_keypoints(rows, run.output("keypoints.parquet"))
        run.metrics["rows"] = rows
        (path,) = write_archive(profile)
        again = pd.read_parquet(path).rename(columns={run.run_id: "distance_in"})
        again = again.assign(distance_in=again["distance_in"].astype(float) / 10_000, theta_in=1.0)
        assert all(pck(again, alpha) == pck(rows, alpha) for alpha in (0.01, 0.05, 0.1, 0.1234, 0.15))
        assert set(again["trg_image"]) == set(rows["trg_image"])
    assert path.parent == profile.results_path / "rows" and path.stat().st_size < 12_000


# Controls


def test_shuffled_pairs_keep_everything_but_which_point_belongs_to_which(profile):
    from sd4match_lib.data.datasets import open_dataset
    from sd4match_lib.reproduce.prepare import prepare_data

    prepare_data(profile)
    pairs = open_dataset(profile.dataset("spair"), "val")
    shuffled, other = ShuffledPairs(pairs, 0), ShuffledPairs(pairs, 1)
    assert len(shuffled) == len(pairs) and shuffled.categories == pairs.categories
    assert len({shuffled.fingerprint(), other.fingerprint(), pairs.fingerprint()}) == 3
    for place in range(5):
        own, mixed = pairs[place], shuffled[place]
        assert np.array_equal(own.src_px, mixed.src_px)
        assert sorted(map(tuple, own.trg_px)) == sorted(map(tuple, mixed.trg_px))
        assert len(own.trg_px) < 2 or not (own.trg_px == mixed.trg_px).all(axis=1).any()
        assert np.array_equal(mixed.trg_px, ShuffledPairs(pairs, 0)[place].trg_px)


def test_a_random_unet_is_another_model_with_the_same_text_and_vae(tmp_path):
    from sd4match_lib.backbones.weights import find_diffusion

    profile = load_profile(write_profile(tmp_path))
    before = torch.get_rng_state()
    random = with_random_unet(profile)
    assert torch.equal(before, torch.get_rng_state())
    real, found = (find_diffusion(one.model).files for one in (profile, random))
    differ = {name for name in real if real[name] != found[name]}
    assert differ and all(name.startswith("unet/") for name in differ)
    assert with_random_unet(profile).model == random.model
    assert find_diffusion(with_random_unet(profile, 1).model).files != found


def test_the_prompt_of_all_names_fills_its_rows_with_them():
    from sd4match_lib.analysis.prompts import load_text_encoder, nearest_words
    from sd4match_lib.reproduce.prepare import prepare_data

    profile = load_profile("mini")
    prepare_data(profile)
    words = nearest_words(category_names_prompt(profile).theta, load_text_encoder(profile))
    assert len(words) == 75 and words["cosine"].min() > 0.99
    assert words["word"].nunique() >= 18 and words["word"].iloc[0] == words["word"].iloc[18]


# Maps in two numbers


def test_a_map_s_mass_and_lead_by_hand():
    scores = torch.full((2, 7, 7), -1.0)
    scores[0, 1, 1], scores[0, 1, 2], scores[0, 5, 5] = 0.9, 0.8, 0.5
    scores[1, 3, 3] = 0.9
    mask = torch.zeros(7, 7, dtype=torch.bool)
    mask[:3, :3] = True
    inside, lead = map_measures(scores, mask, window=3, temperature=0.04)
    # The neighbour at 0.8 belongs to the peak; 0.5 is the second one.
    assert lead.tolist() == pytest.approx([0.4, 1.9])
    assert inside[0] > 0.99 and inside[1] < 0.01
    flat = map_measures(torch.zeros(1, 7, 7), mask, window=3, temperature=0.04)
    assert flat[0].item() == pytest.approx(9 / 49) and flat[1].item() == 0
    assert map_measures(scores, mask, window=13, temperature=0.04)[1].tolist()[1] == 0


# Two objects in each picture


def test_pairs_of_two_objects_share_one_category_and_change_sides(profile, tmp_path):
    from sd4match_lib.analysis.several_objects import two_object_pairs
    from sd4match_lib.data.datasets import open_dataset
    from sd4match_lib.reproduce.prepare import prepare_data

    prepare_data(profile)
    pairs = open_dataset(profile.dataset("spair"), "test")[:40:8]
    two = two_object_pairs(pairs, tmp_path)
    for place, (own, new) in enumerate(zip(pairs, two, strict=True)):
        picture = np.asarray(new.src.read()).astype(float)
        side = picture.shape[0]
        half = np.asarray(own.src.read().resize((side // 2, side // 2))).astype(float)
        left = picture[side // 4 : side // 4 + side // 2, : side // 2]
        right = picture[side // 4 : side // 4 + side // 2, side // 2 :]
        near, far = (left, right) if place % 2 == 0 else (right, left)
        assert np.abs(near - half).mean() < 8 < np.abs(far - half).mean()
        assert new.src.image_id != new.trg.image_id and new.category == own.category
    with pytest.raises(UserError, match="three categories"):
        two_object_pairs(pairs[:1], tmp_path)
