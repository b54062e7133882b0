"""A profile whose evaluations and trainings take a second, for faults in the midst of them."""

import dataclasses
import json

import layouts
import pytest
import tiny


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """The file of a profile on tiny models."""
    return tiny.write_profile(tmp_path_factory.mktemp("models"))


@pytest.fixture
def small_profile(tiny_models, tmp_path):
    """Two pairs of one's own for every split, on tiny models."""
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.config.schema import DatasetConfig

    for seed, name in enumerate(("a.png", "b.png")):
        layouts.write_picture(tmp_path / "data" / name, (64, 64), seed=seed)
    points = {"src_points": [[5, 6], [40, 30]], "trg_points": [[9, 9], [44, 31]], "category": "cat"}
    pairs = [{"src": "a.png", "trg": "b.png", **points}, {"src": "b.png", "trg": "a.png", **points}]
    (tmp_path / "data" / "pairs.json").write_text(json.dumps(pairs))
    loaded = load_profile(tiny_models)
    own = DatasetConfig(kind="own", root=str(tmp_path / "data" / "pairs.json"))
    small = {"steps": 2, "batch_size": 1, "validate_every": 1, "validation_pairs": 1}
    training = dataclasses.replace(loaded.training, **small)
    return dataclasses.replace(loaded, datasets={"own": own}, training=training)


@pytest.fixture
def one_thread():
    """For what forks a process with PyTorch loaded."""
    from threads import threads

    with threads(1):
        yield
