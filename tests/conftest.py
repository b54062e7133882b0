"""Shared fixtures; everything that tests write goes to temporary folders."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sd4match_lib.backbones.base import TextEncoder

# Set before anything imports torch: tests share small machines, and nobody watches their progress bars.
os.environ["SD4MATCH_HEADLESS"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that share the cores slow each other down with more threads than cores. Not set in the process
    # that starts them, whose choice they would inherit.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = (
    "test_smoke",
    "test_picker_browser",
    "test_faults_kills",
    "test_same_every_time",
    "test_training_processes",
    "test_docs",
    "test_runner",
)
"""Files that begin first, so that no process is left with one of them at the end."""

PROJECT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture
def project() -> Path:
    return PROJECT


@pytest.fixture
def shared_data() -> Path:
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}")
    return folder


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion in diffusers' layout."""
    import tiny  # loads PyTorch, which most tests do without

    return tiny.write_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def encoder(sd: Path) -> "TextEncoder":
    """Its text model."""
    from sd4match_lib.backbones.stable_diffusion import StableDiffusion

    return StableDiffusion.load_text(sd)


@pytest.fixture
def close_figures() -> Iterator[None]:
    """Close what a test has drawn."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


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
