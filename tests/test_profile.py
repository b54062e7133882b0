import dataclasses
import json
import re

import pytest

from sd4match_lib.config.profile import load_profile, profile_names
from sd4match_lib.errors import UserError
from sd4match_lib.utils.paths import package_path


def write(tmp_path, text):
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["mini", "smoke", "paper"])
def test_shipped_profiles_load_and_are_frozen(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.results_dir == f"results/{name}"
    assert re.fullmatch("[0-9a-f]{8}", profile.hash)
    assert load_profile(name) == profile
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.seed = 1


def test_the_paper_profile_is_the_papers_setting():
    paper = load_profile("paper")
    assert paper.model.image_hw == (768, 768)
    assert (paper.features.layer, paper.features.timestep, paper.features.train_timestep) == (
        "up_blocks.1",
        50,
        261,
    )
    assert (paper.features.ensemble, paper.evaluation.sigma, paper.evaluation.temperature) == (8, 7.0, 0.04)
    assert paper.dataset("spair").published_counts == {"train": 53340, "val": 5384, "test": 12234}
    assert paper.dataset("pf_pascal").published_counts == {"train": 2941, "val": 308, "test": 299}
    assert paper.dataset("pf_willow").published_counts == {"test": 900}
    assert paper.baselines.sd_dino.model.image_hw == (960, 960)


def test_smoke_is_mini_on_a_slice():
    mini, smoke = load_profile("mini"), load_profile("smoke")
    assert smoke.model.sources == mini.model.sources and smoke.features == mini.features
    assert smoke.dataset("spair").root == mini.dataset("spair").root
    assert smoke.dataset("spair").max_pairs["test"] == 12 < mini.dataset("spair").max_pairs["test"]
    assert smoke.hash != mini.hash


def test_the_kernel_covers_the_same_part_of_the_picture_in_both_worlds():
    assert load_profile("mini").evaluation.sigma / 32 == pytest.approx(7 / 48, abs=1e-4)


def test_a_file_of_ones_own_states_only_what_differs(tmp_path):
    own = load_profile(write(tmp_path, 'extends = "mini"\nname = "own"\n[features]\nensemble = 3\n'))
    assert own.features.ensemble == 3
    assert own.features.timestep == load_profile("mini").features.timestep
    (tmp_path / "third.toml").write_text('extends = "own.toml"\nseed = 7\n')
    assert load_profile(tmp_path / "third.toml").features.ensemble == 3


def test_profiles_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(
        UserError, match="there is no profile 'maxi'; use one of mini, overnight, paper, smoke"
    ):
        load_profile("maxi")
    with pytest.raises(UserError, match="leads back"):
        load_profile(write(tmp_path, 'extends = "own.toml"\n'))
    with pytest.raises(UserError, match=r"has no dataset 'tss'; it has: pf_pascal, pf_willow, spair"):
        load_profile("mini").dataset("tss")


def test_the_hash_follows_every_value(tmp_path):
    base = load_profile("mini")
    changed = load_profile(write(tmp_path, 'extends = "mini"\n[evaluation]\nsigma = 5\n'))
    assert changed.hash != base.hash
    assert json.loads(json.dumps(base.to_dict()))["datasets"]["spair"]["kind"] == "spair"
    assert base.dataset("pf_willow").kind == "pf_willow"


def test_no_code_asks_for_a_profiles_name():
    names = "|".join(profile_names())
    asks = re.compile(rf"""(==|!=|\bin|case)\s*[("'\[{{]*["']({names})["']|["']({names})["']\s*(==|!=)""")
    for path in package_path("").rglob("*.py"):
        assert not asks.search(path.read_text(encoding="utf-8")), path


def test_overnight_is_mini_with_enough_of_everything_to_decide_claims():
    mini, overnight = load_profile("mini"), load_profile("overnight")
    assert mini.decided_by == "overnight" and not overnight.decided_by
    assert overnight.model == mini.model and overnight.features == mini.features
    assert overnight.training.steps >= 5 * mini.training.steps
    for name, config in mini.datasets.items():
        larger = overnight.dataset(name)
        # A folder of its own: each profile's data is rendered in another size.
        assert larger.max_pairs["test"] > config.max_pairs["test"] and larger.root != config.root
    for stem in ("05", "06", "07", "08", "09", "11"):
        (parameters,) = (
            found for key, found in overnight.notebooks.parameters.items() if key.startswith(stem)
        )
        assert len(parameters["SEEDS"]) >= 5
