"""Shared fixtures; everything that tests write goes to temporary folders."""

import os
from pathlib import Path

import pytest

# Set before anything imports torch: tests share small machines, and nobody watches their progress bars.
os.environ["SD4MATCH_HEADLESS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project() -> Path:
    return PROJECT


@pytest.fixture
def shared_data() -> Path:
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}")
    return folder


@pytest.fixture
def scratch_profile(tmp_path: Path) -> Path:
    """A profile like mini's that keeps its results and cache in `tmp_path`."""
    mini = PROJECT / "sd4match_lib" / "config" / "mini.toml"
    # Its notebooks' parameters belong to notebooks that scratch folders do not have.
    base = tmp_path / "base.toml"
    settings = mini.read_text(encoding="utf-8").split("\n[notebooks.parameters")[0]
    settings = settings.replace('dtype = "bfloat16"', 'dtype = "float32"')  # compared to many digits
    base.write_text(settings + "\n", encoding="utf-8")
    path = tmp_path / "scratch.toml"
    path.write_text(
        f'extends = "base.toml"\nname = "scratch"\n'
        f'results_dir = "{tmp_path.as_posix()}/results"\ncache_dir = "{tmp_path.as_posix()}/cache"\n'
        "[notebooks]\ntimeout_s = 60\n",
        encoding="utf-8",
    )
    return path
