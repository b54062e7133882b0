"""The `paper` profile's path at its true size: SD2-1's and DINOv2's shapes, random weights, 768 x 768, bf16.

Takes some minutes on two cores and 6 GB: SD4MATCH_PAPER_SCALE=1 asks for it.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import PROJECT

from sd4match_lib.config.profile import load_profile
from sd4match_lib.reproduce.prepare import prepare_data

MOST_MB = 20_000


def build_unet():
    """A UNet of SD2-1's shapes that knows nothing."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=96,
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        use_linear_projection=True,
    )


def build_text_model():
    """A text model of SD2-1's shapes that knows nothing."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
    )


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A profile like paper's on models of SD2-1's and DINOv2's shapes, which know nothing."""
    from diffusers import AutoencoderKL
    from transformers import Dinov2Config, Dinov2Model

    from sd4match_lib.miniature.pretraining.networks import build_scheduler
    from sd4match_lib.miniature.pretraining.vocabulary import build_tokenizer

    prepare_data(load_profile("mini"))
    folder = tmp_path_factory.mktemp("paper")
    sd = folder / "sd"
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        build_unet().save_pretrained(sd / "unet")
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=768,
        ).save_pretrained(sd / "vae")
        build_text_model().save_pretrained(sd / "text_encoder")
        vision = Dinov2Config(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=518)
        Dinov2Model(vision).save_pretrained(folder / "dinov2")
    finally:
        torch.set_default_dtype(torch.float32)
    build_tokenizer().save_pretrained(sd / "tokenizer")
    build_scheduler().save_pretrained(sd / "scheduler")
    minipair = PROJECT / "data" / "minipair" / "SPair-71k"
    path = folder / "stand_in.toml"
    path.write_text(
        'extends = "paper"\nname = "stand_in"\n'
        f'results_dir = "{folder}/results"\ncache_dir = "{folder}/cache"\n'
        f'[model]\nsources = ["{sd}"]\ndtype = "bfloat16"\n[vision]\nsources = ["{folder}/dinov2"]\n'
        f'[features]\nensemble = 1\n[datasets.spair]\nroot = "{minipair}"\n'
        "[datasets.spair.max_pairs]\ntrain = 2\nval = 1\ntest = 2\n"
        "[training]\nsteps = 2\nbatch_size = 2\naccumulate = 2\nvalidate_every = 2\nvalidation_pairs = 1\n",
        encoding="utf-8",
    )
    return path


def launch(*arguments):
    """Run the command as `accelerate launch` starts it; returns what it printed."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"]
    command += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "-m",
        "sd4match_lib",
    ]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(
    os.environ.get("SD4MATCH_PAPER_SCALE") != "1", reason="set SD4MATCH_PAPER_SCALE=1: some minutes and 6 GB"
)
def test_cpm_is_learned_and_evaluated_at_full_size(stand_in):
    said = launch("train", "--profile", stand_in, "--prompt", "cpm")
    prompt = next(line for line in said.splitlines() if line.startswith("prompt: ")).removeprefix("prompt: ")
    launch("evaluate", "--profile", stand_in, "--dataset", "spair", "--prompt", prompt)
    records = [json.loads(path.read_text()) for path in (stand_in.parent / "results").glob("runs/*/run.json")]
    peaks = {record["name"]: record["peak_memory_mb"]["host"] for record in records}
    assert len(records) == 2 and all(record["status"] == "complete" for record in records), records
    for record in records:
        sys.stdout.write(f"{record['name']}: {record['wall_s']:.0f} s, {peaks[record['name']]:.0f} MB\n")
    assert max(peaks.values()) < MOST_MB
