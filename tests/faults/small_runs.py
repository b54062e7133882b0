"""Small runs of every command on tiny models, and what of them must come out the same."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import sys
from concurrent.futures import Executor, Future
from pathlib import Path

import layouts
import pytest
from safetensors.torch import load_file
from tiny_notebooks import execute_here, write_notebook

from sd4match_lib.errors import WriteError
from sd4match_lib.prompts.prompt_file import weights_hash
from sd4match_lib.utils.paths import package_path

ALL = os.environ.get("SD4MATCH_FAULTS") == "all"
"""Whether everything is tried, which takes minutes, and not a part of it."""

FORKS = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a process with PyTorch loaded"),
]
"""The marks of tests that fork."""


def in_folder(profile, folder):
    """Return the profile with results and cache in a folder of their own, ready for every run below."""
    own = dataclasses.replace(profile, results_dir=str(folder / "results"), cache_dir=str(folder / "cache"))
    write_notebooks(write_profile(own).with_name("notebooks"))
    return own


def run_evaluation(profile):
    """Evaluate; the rows are what must come out the same."""
    from sd4match_lib.evaluation.evaluate import evaluate

    result = evaluate(profile, dataset="own", device="cpu")
    return (result.folder / "keypoints.parquet").read_bytes()


def run_training(profile, kind="single"):
    """Learn a prompt; its weights and its log without the seconds must come out the same."""
    from sd4match_lib.training.train import train

    length = {"length_global": 2, "length_condition": 2} if kind == "cpm" else {"length": 4}
    result = train(profile, kind, dataset="own", device="cpu", options=length)
    log = [line.split(",") for line in (result.folder / "log.csv").read_text().splitlines()]
    return weights_hash(result.prompt.state_dict()), [[step, *rest] for step, _seconds, *rest in log]


def run_class_training(profile):
    """Learn a prompt for each category."""
    return run_training(profile, "class")


def run_cpm_training(profile):
    """Learn the conditional prompting module."""
    return run_training(profile, "cpm")


def run_score(profile):
    """Score the truth; the rows must come out the same."""
    from sd4match_lib.data.datasets import open_dataset
    from sd4match_lib.evaluation.score import score

    config = profile.datasets["own"]
    rows = ["pair_id,keypoint,x,y"]
    for pair in open_dataset(config, "test"):
        for keypoint, (x, y) in zip(pair.keypoint_ids, pair.trg_px.tolist(), strict=True):
            rows.append(f"{pair.pair_id},{keypoint},{x},{y}")
    path = config.path.parent / "predictions.csv"
    if not path.exists():
        path.write_text("\n".join(rows) + "\n")
    result = score(profile, path, dataset="own")
    return (result.folder / "keypoints.parquet").read_bytes()


STUDY = "from sd4match_lib.reproduce.study import open_study\nstudy = open_study({stem!r}, PROFILE)"
ROWS = "result = study.evaluate('text', dataset='own', device='cpu')"
TABLE = "_ = study.table(result.table, {stem!r}, 'A table', runs=result)\nstudy.finish()"


def write_profile(profile):
    """Write a profile file for commands that read one, with no data set but the own one; return its path."""
    folder = profile.results_path.parent
    folder.mkdir(parents=True, exist_ok=True)
    mini = package_path("config/mini.toml").read_text(encoding="utf-8")
    # What lies in mini's folders, and which notebooks it has parameters for, is another project's.
    foreign = ("[datasets", "[notebooks.")
    parts = [part for part in re.split(r"\n(?=\[)", mini) if not part.startswith(foreign)]
    (folder / "base.toml").write_text("\n".join(parts))
    tiny = Path(profile.model.sources[0]).with_name("tiny.toml").read_text()
    tiny = re.sub(r"(results|cache)_dir = .*\n", "", tiny)
    tiny = tiny.replace('extends = "mini"', 'extends = "base.toml"')
    own = f'results_dir = "{profile.results_dir}"\ncache_dir = "{profile.cache_dir}"\n'
    data = f'[datasets.own]\nkind = "own"\nroot = "{profile.datasets["own"].root}"\n'
    path = folder / "small.toml"
    path.write_text(tiny.replace("[model]", f"{own}[model]", 1) + data)
    return path


def write_notebooks(folder):
    """Write two notebooks: one makes a table of an evaluation, the other one finds the evaluation again."""
    for stem, finish in (("00_first", TABLE), ("01_second", "study.finish(pairs=len(result.keypoints))")):
        parts = {"start": STUDY.format(stem=stem), "work": ROWS, "finish": finish.format(stem=stem)}
        write_notebook(folder / f"{stem}.ipynb", **parts)
    return folder


def run_reproduce(profile):
    """Run the two notebooks in this process; table, copies and records must come out the same."""
    from sd4match_lib.reproduce.reproduce import reproduce

    folder = profile.results_path.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sd4match_lib.reproduce.runner._execute", execute_here)
        records = reproduce(str(folder / "small.toml"), notebooks_dir=folder / "notebooks")
    return reproduced(profile, records)


def reproduced(profile, records):
    """Return what of the two notebooks must come out the same, however often they were begun."""
    folder = profile.results_path / "notebooks"
    assert sorted(p.name for p in folder.iterdir()) == [
        f"{stem}.{kind}" for stem in ("00_first", "01_second") for kind in ("ipynb", "json")
    ]
    assert [record.status for record in records] == ["complete", "complete"]
    cells = [len(json.loads(path.read_text())["cells"]) for path in sorted(folder.glob("*.ipynb"))]
    table = (profile.results_path / "tables" / "00_first.csv").read_bytes()
    return table, cells, [record.config["runs"] for record in records], records[1].metrics["pairs"]


def run_match(profile):
    """Match a folder of frames by the command; the answer and the pictures must come out the same."""
    from sd4match_lib.cli.main import main

    folder = profile.results_path.parent
    path = folder / "small.toml"
    for seed in range(3):
        layouts.write_picture(folder / "frames" / f"{seed}.png", (32, 32), seed=seed)
    frames, out = folder / "frames", folder / "out"
    outputs = ["--json", str(out / "m.json"), "--picture", str(out / "m.png")]
    points = ["--points", "5,6", "--profile", str(path), "--device", "cpu"]
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(["match", str(frames / "0.png"), str(frames), *points, *outputs])
    if code:
        raise WriteError(said.getvalue().splitlines()[-1])
    found = [path.read_bytes() for path in sorted(out.glob("*.png"))]
    return found, [target["matches"] for target in json.loads((out / "m.json").read_text())["targets"]]


def run_render(profile):
    """Render a little of MiniPair in this process; every byte must come out the same."""
    from sd4match_lib.miniature.dataset import write
    from sd4match_lib.miniature.dataset.write_spair import Amount

    few = (Amount(2, 1), Amount(0, 0), Amount(0, 0))
    sizes = write.Sizes(("bottle",), few, (1, 0, 0), ("winebottle(wC)",), 2)
    folder = profile.results_path.parent / "minipair"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "WorkerPool", Here)
        write.render_minipair(folder, 3, sizes)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run_pretrain(profile):
    """Pretrain a tiny autoencoder; its weights, and all that it would go on from, must come out the same."""
    from sd4match_lib.miniature.pretraining import renders, run, vae
    from sd4match_lib.miniature.pretraining.loop import Budget

    folder = profile.results_path.parent / "miniature"
    budget = Budget(None, None, 2, 2e-3, warmup=1, save_every_s=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renders, "WorkerPool", Here)
        patch.setattr(renders, "CHUNK", 2)
        patch.setitem(run.PICTURES, "vae", 2)
        patch.setitem(run.BUDGETS, "vae", budget)
        patch.setattr(run, "hold_memory", lambda: None)  # it would hold the tests'
        patch.setattr(vae, "build_vae", build_tiny_vae)
        run.run("vae", out=folder, steps=3, device="cpu")
    weights = folder / "weights" / "diffusion" / "vae" / "diffusion_pytorch_model.safetensors"
    steps = [line.split(",")[0] for line in (folder / "vae.csv").read_text().splitlines()]
    return weights.read_bytes(), weights_hash(load_file(folder / "vae.safetensors")), steps[-1]


def build_tiny_vae():
    """An autoencoder of a few thousand numbers."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, mid_block_add_attention=False)


class Here(Executor):
    """A pool of no workers: what is submitted is done here and now, with what the test has changed."""

    def submit(self, work, /, *arguments, **options):
        done = Future()
        done.set_result(work(*arguments, **options))
        return done
