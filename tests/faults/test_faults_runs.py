"""Evaluations and trainings whose surroundings are not as they should be."""

import dataclasses
import errno
import os
import shutil

import layouts
import pandas as pd
import pytest
from PIL import Image
from refusal import refused
from small_runs import in_folder, run_evaluation, run_reproduce, run_score, run_training

from sd4match_lib.cli.main import main
from sd4match_lib.config.schema import DatasetConfig
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.evaluation import pairs as pair_matching
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.images import read_image
from sd4match_lib.metrics.keypoints import read_keypoints, write_keypoints
from sd4match_lib.reproduce.doctor import Status, check
from sd4match_lib.reproduce.study import open_study
from sd4match_lib.training.train import train
from sd4match_lib.utils.reading import check_file


@pytest.fixture
def part(small_profile, tmp_path):
    """The pairs of a part, and the file of its rows."""
    run_evaluation(in_folder(small_profile, tmp_path))
    (path,) = (tmp_path / "results" / "runs").glob("*/keypoints.parquet")
    return list(open_dataset(small_profile.datasets["own"], "test")), path


PARTS = {
    "a row less": lambda rows: rows.iloc[:-1],
    "a row twice": lambda rows: pd.concat([rows, rows.iloc[:1]]),
    "one row twice in another's place": lambda rows: pd.concat([rows.iloc[1:], rows.iloc[1:2]]),
    "a pair less": lambda rows: rows[rows["pair_id"] == rows["pair_id"].iloc[0]],
    "another pair's": lambda rows: rows.assign(pair_id="other"),
    "other keypoints": lambda rows: rows.assign(keypoint=rows["keypoint"] + "0"),
    "nothing": lambda rows: rows.iloc[:0],
    "a column less": lambda rows: rows.drop(columns="pred_x_px"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_a_finished_part_that_holds_other_rows_is_matched_again(part, name, caplog):
    pairs, path = part
    assert pair_matching._is_finished(path, pairs)
    rows = read_keypoints(path)
    if name == "a column less":
        PARTS[name](pd.read_parquet(path)).to_parquet(path)
    else:
        write_keypoints(PARTS[name](rows), path)
    assert not pair_matching._is_finished(path, pairs) and "matched again" in caplog.text


IN_THE_WAY = {
    "rows, a folder": (run_evaluation, "runs/*/keypoints.parquet", "folder"),
    "parts, a file": (run_evaluation, "runs/*/parts", "file"),
    "the run, a file": (run_evaluation, "runs/*", "file"),
    "the locks, a file": (run_evaluation, ".locks", "file"),
    "the prompt, a folder": (run_training, "runs/*/prompt.safetensors", "folder"),
    "the log, a folder": (run_training, "runs/*/log.csv", "folder"),
    "the state, a folder": (run_training, "runs/*/state.safetensors", "folder"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_THE_WAY)
def test_a_folder_in_a_files_place_is_replaced_or_named_and_so_is_a_file_in_a_folders(
    small_profile, tmp_path, name
):
    work, place, kind = IN_THE_WAY[name]
    profile = in_folder(small_profile, tmp_path)
    undisturbed = work(profile)
    (run,) = (profile.results_path / "runs").iterdir()
    path = profile.results_path / place.replace("*", run.name)
    if path.name in ("state.safetensors", "parts"):  # only there while it works
        (run / "run.json").unlink()
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else path.write_text("in the way")
    try:
        assert work(profile) == undisturbed
    except Exception as error:
        said = refused(lambda: work(profile), path.name)
        assert said == str(error), "and says it again"
        path.rmdir() if kind == "folder" else path.unlink()
        assert work(profile) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "place"),
    [
        (run_evaluation, "keypoints.parquet"),
        (run_evaluation, "parts"),
        (run_training, "state.safetensors"),
        (run_training, "prompt.safetensors"),
    ],
)
def test_nothing_is_written_through_a_link_that_lies_in_a_run(small_profile, tmp_path, work, place):
    profile = in_folder(small_profile, tmp_path)
    work(profile)
    (run,) = (profile.results_path / "runs").iterdir()
    shutil.rmtree(run)
    run.mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "file").write_text("somebody's")
    (run / place).symlink_to(tmp_path / "others" / ("" if place == "parts" else "file"))
    refused(lambda: work(profile), place, "is a link")
    assert [path.read_text() for path in (tmp_path / "others").iterdir()] == ["somebody's"]


LINKS = ["tables", "figures", "notebooks", "rows", "runs", ".locks", "tables/claims", "REPORT.md"]
LINKS += [
    "tables/00_first.csv",
    "figures/x.png",
    "notebooks/00_first.json",
    "notebooks/00_first.partial.ipynb",
]


@pytest.mark.parametrize("place", LINKS)
def test_nothing_is_written_through_a_link_that_lies_among_results(small_profile, tmp_path, place):
    profile = in_folder(small_profile, tmp_path)
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "file").write_text("somebody's")
    link = profile.results_path / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "others" / ("file" if "." in link.name[1:] else ""))
    path = str(tmp_path / "small.toml")
    for work in (lambda: run_reproduce(profile), lambda: open_study("00_first", path)):
        refused(work, str(link), "is a link")
    if place == "tables":
        assert main(["leaderboard", "--dataset", "own", "--profile", path]) == 2
    if place in ("runs", ".locks"):
        refused(lambda: run_score(profile), str(link), "is a link")
    assert [path.read_text() for path in (tmp_path / "others").iterdir()] == ["somebody's"]


def test_the_mark_of_a_place_is_not_written_through_a_link(small_profile, tmp_path):
    profile = in_folder(small_profile, tmp_path)
    profile.cache_path.mkdir()
    (profile.cache_path / "place.txt").symlink_to(tmp_path / "made.txt")
    refused(lambda: run_reproduce(profile), "place.txt", "is a link")
    assert not (tmp_path / "made.txt").exists()


@pytest.mark.slow
def test_results_that_the_user_has_linked_elsewhere_are_written_there(small_profile, tmp_path):
    undisturbed = run_reproduce(in_folder(small_profile, tmp_path / "here"))
    (tmp_path / "elsewhere").mkdir()
    profile = in_folder(small_profile, tmp_path / "linked")
    profile.results_path.symlink_to(tmp_path / "elsewhere")
    assert run_reproduce(profile) == undisturbed
    assert (tmp_path / "elsewhere" / "tables" / "00_first.csv").is_file()


@pytest.mark.slow
def test_nothing_is_written_through_a_link_that_lies_in_a_cache(small_profile, tmp_path):
    profile = in_folder(small_profile, tmp_path)
    undisturbed = run_evaluation(profile)
    shutil.rmtree(profile.results_path)
    (tmp_path / "file").write_text("somebody's")
    entries = list(profile.cache_path.rglob("*.safetensors"))
    for path in entries:
        path.unlink()
        path.symlink_to(tmp_path / "file")
    assert run_evaluation(profile) == undisturbed and (tmp_path / "file").read_text() == "somebody's"
    assert entries and not any(path.is_symlink() for path in entries)


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    layouts.write_picture(tmp_path / "a.png")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    refused(lambda: check_file(tmp_path / "a.png"), "a.png", "permission denied")

    def forbid(path, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Image, "open", forbid)
    refused(lambda: read_image(tmp_path / "a.png"), "a.png", "Permission denied")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused_before_any_work(small_profile, tmp_path, seed):
    profile = in_folder(small_profile, tmp_path)
    asked = {"dataset": "own", "device": "cpu", "seed": seed}
    for work in (lambda: evaluate(profile, **asked), lambda: train(profile, "single", **asked)):
        refused(work, f"seed is {seed}")
    assert not profile.results_path.exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_training_without_pairs_is_refused_before_its_first_step(small_profile, tmp_path, split):
    root = tmp_path / "SPair-71k"
    for part in ("train", "val"):
        layouts.write_spair(root, [("a", "b", "cat")] if part != split else [], part)
    config = DatasetConfig(kind="spair", root=str(root))
    profile = dataclasses.replace(
        small_profile, datasets={"x": config}, results_dir=str(tmp_path / "results")
    )
    refused(lambda: train(profile, "single", dataset="x", device="cpu"), "no pairs")
    assert not (profile.results_path / "runs").exists()


def test_a_data_set_without_a_training_split_says_where_to_train(small_profile, tmp_path):
    root = layouts.write_pf_willow(tmp_path / "willow", {"car(G)": ["a", "b"]})
    config = DatasetConfig(kind="pf_willow", root=str(root))
    profile = dataclasses.replace(small_profile, datasets={"pf_willow": config})
    refused(lambda: train(profile, "single", dataset="pf_willow", device="cpu"), "pf_willow", "spair")


@pytest.mark.parametrize("content", [b"", b"x" * 100, None], ids=["empty", "text", "folder"])
def test_the_doctor_opens_weights_before_it_calls_them_ready(small_profile, tmp_path, content):
    profile = in_folder(small_profile, tmp_path)
    shutil.copytree(profile.model.sources[0], tmp_path / "sd")
    model = dataclasses.replace(profile.model, sources=(str(tmp_path / "sd"),))
    path = tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    found = {finding.subject: finding for finding in check(dataclasses.replace(profile, model=model))}
    assert found["diffusion"].status is Status.MISSING and path.name in found["diffusion"].detail
    assert found["tiny"].section == "verdict" and found["tiny"].status is Status.MISSING


@pytest.mark.parametrize("place", ["results", "cache"])
def test_the_doctor_says_which_folder_cannot_be_written(small_profile, tmp_path, place, capsys):
    in_folder(small_profile, tmp_path)
    (tmp_path / place).write_text("in the way")
    assert main(["doctor", "--profile", str(tmp_path / "small.toml")]) == 1
    assert f"{tmp_path / place} is not a folder" in capsys.readouterr().out
