import dataclasses

import pytest
import tiny
import torch

from sd4match_lib.config.profile import load_profile
from sd4match_lib.report.comparison import ASSUMED, Rate, gpu_hours
from sd4match_lib.report.items import ITEMS, Cost
from sd4match_lib.reproduce import doctor, timing

CPU = torch.device("cpu")


@pytest.fixture
def profile(tmp_path):
    return load_profile(tiny.write_profile(tmp_path))


def test_hours_follow_from_the_measured_rate():
    # An hour of a device that takes 10 ms a picture is 360,000 passes; a training is 270,000 pairs.
    rate = Rate(pass_s=0.01, pair_s=0.1)
    assert gpu_hours(Cost(trainings=2), rate) == pytest.approx(2 * 270_000 * 0.1 / 3600)
    assert gpu_hours(Cost(pair_runs=1), rate) == pytest.approx(12_234 * 2 * 8 / 360_000)
    assert gpu_hours(Cost(pair_runs=1, trainings=1)) == pytest.approx(
        gpu_hours(Cost(pair_runs=1), ASSUMED) + gpu_hours(Cost(trainings=1), ASSUMED)
    )


def test_a_rate_is_seconds_for_a_picture_and_for_a_pair(profile, monkeypatch):
    # A clock that ticks by what the work is: one second a pass of the UNet, there and back alike.
    model, known = timing._model(profile, CPU)
    passes, read = [0], model.read_layers

    def count(noisy, *args):
        passes[0] += len(noisy)
        return read(noisy, *args)

    monkeypatch.setattr(model, "read_layers", count)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(passes[0]))
    assert known and timing.measure_rate(profile, model) == Rate(1.0, 2.0)


def test_every_notebook_with_a_cost_is_told_and_the_sum(profile, monkeypatch):
    monkeypatch.setattr(timing, "measure_rate", lambda *_: Rate(0.01, 0.05))
    told = dict(timing.time_notebooks(profile, CPU))
    rate = told.pop(next(iter(told)))
    assert rate.startswith("measured: 10.0 ms for a picture") and "random" not in str(told)
    assert all(text.startswith("passes counted, at the measured rate: ") for text in told.values())
    assert set(told) == {item.notebook for item in ITEMS if gpu_hours(item.cost)} | {"all notebooks"}
    assert told["05_spair_per_category"].endswith(" hours") and told["10_prompt_to_image"].endswith("minutes")


def test_random_weights_stand_in_for_a_model_that_is_not_here(profile, tmp_path, monkeypatch):
    whole = tiny.write_diffusion(tmp_path / "small", levels=4)
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    for build, kind, part in (
        ("build_unet", UNet2DConditionModel, "unet"),
        ("build_vae", AutoencoderKL, "vae"),
        ("build_text_model", CLIPTextModel, "text_encoder"),
    ):
        monkeypatch.setattr(
            timing, build, lambda kind=kind, part=part: kind.from_pretrained(whole, subfolder=part)
        )
    absent = dataclasses.replace(profile, model=dataclasses.replace(profile.model, sources=("no/where",)))
    (_, rate), *_ = timing.time_notebooks(absent, CPU)
    assert rate.endswith("with random weights, as the model is not here")


def test_the_doctor_times_only_what_hours_are_known_of(monkeypatch):
    paper = load_profile("paper")
    assert doctor.time_here(paper) == [] or torch.cuda.is_available()
    monkeypatch.setattr("sd4match_lib.backbones.device.resolve_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(timing, "time_notebooks", lambda *_: iter([("05", "3.0 hours")]))
    assert doctor.time_here(load_profile("mini")) == []
    assert doctor.format_report(doctor.time_here(paper)) == "Time\n  ok      05  3.0 hours"

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(timing, "time_notebooks", full)
    (finding,) = doctor.time_here(paper)
    assert finding.status is doctor.Status.NOTE and "training.accumulate" in finding.fix
