"""What changed between two runs of one request is computed again, and what came back is found again."""

import dataclasses
import json
import os
from pathlib import Path

import layouts
import pytest
import tiny
from safetensors.torch import load_file, save_file
from small_runs import in_folder, run_evaluation, run_score, run_training

pytestmark = pytest.mark.slow


@pytest.fixture
def profile(small_profile, tmp_path):
    """The small profile, on a model that this test may change."""
    tiny.write_diffusion(tmp_path / "sd")
    own = in_folder(small_profile, tmp_path)
    return dataclasses.replace(own, model=dataclasses.replace(own.model, sources=(str(tmp_path / "sd"),)))


def change_picture(profile, _patch):
    layouts.write_picture(Path(profile.datasets["own"].root).with_name("b.png"), (64, 64), seed=9)
    return profile


def change_points(profile, _patch):
    path = Path(profile.datasets["own"].root)
    pairs = json.loads(path.read_text())
    pairs[0]["trg_points"] = [[9, 10], [44, 31]]
    path.write_text(json.dumps(pairs))
    return profile


def change_weights(profile, _patch):
    """One number of the UNet, in a file of the same size and time."""
    path = Path(profile.model.sources[0]) / "unet" / "diffusion_pytorch_model.safetensors"
    before, tensors = path.stat(), load_file(path)
    tensors["conv_in.weight"][0, 0, 1, 1] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    return profile


def change_code(profile, patch):
    for place in (
        "evaluation.evaluate.method_hash",
        "training.train.method_hash",
        "evaluation.score.tree_hash",
    ):
        patch.setattr(f"sd4match_lib.{place}", lambda *_: "edited")
    return profile


def change_profile(profile, _patch):
    training = dataclasses.replace(profile.training, learning_rate=0.5)
    evaluation = dataclasses.replace(profile.evaluation, sigma=3.0)
    model = dataclasses.replace(profile.model, image_hw=(72, 64))
    return dataclasses.replace(profile, training=training, evaluation=evaluation, model=model)


CHANGES = (change_picture, change_points, change_weights, change_code, change_profile)
WORKS = {run_evaluation: CHANGES, run_training: CHANGES, run_score: CHANGES[:2] + CHANGES[3:]}
SAME_RESULT = {(work, change_code) for work in WORKS} | {(run_score, change_picture)}
"""Code is only said to be another one here, and scoring looks at points alone."""


@pytest.mark.parametrize(
    ("work", "change"), [(work, change) for work, changes in WORKS.items() for change in changes]
)
def test_only_what_is_the_same_is_found_again(work, change, profile, tmp_path):
    folders = (tmp_path / "results" / "runs").glob
    first = work(profile)
    (run,) = folders("*")
    written = run.stat().st_mtime_ns, (run / "run.json").read_bytes()
    assert work(profile) == first and len(list(folders("*"))) == 1, "the same request is found again"
    with pytest.MonkeyPatch.context() as patch:
        changed = change(profile, patch)
        if work is run_score:  # its form is that of the pairs as they are now
            (tmp_path / "data" / "predictions.csv").unlink()
        second = work(changed)
        assert len(list(folders("*"))) == 2, "another request is another run"
    assert (second == first) == ((work, change) in SAME_RESULT), "and is computed from what is there now"
    assert (run.stat().st_mtime_ns, (run / "run.json").read_bytes()) == written, "the first stays as it was"
