"""A profile: everything that makes an experiment, as one frozen value read from one TOML file.

Which models, which data, at which sizes: what differs between a laptop's first run and the paper's tables is
data in `config/*.toml`. No code asks for a profile's name.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sd4match_lib.config.parse import parse_dataclass
from sd4match_lib.config.schema import (
    NAME,
    BaselinesConfig,
    DatasetConfig,
    EvaluationConfig,
    FeatureConfig,
    ModelConfig,
    NotebooksConfig,
    TrainingConfig,
    VisionConfig,
)
from sd4match_lib.errors import UserError
from sd4match_lib.utils.files import sha256_text
from sd4match_lib.utils.paths import package_path, resolve_path, user_path
from sd4match_lib.utils.reading import read_toml

_DEEPEST = 20


@dataclass(frozen=True)
class Profile:
    """Everything that makes an experiment.

    Attributes:
        name: shown in every path, record, caption and figure.
        seed: what all random streams start from.
        results_dir: where results go, relative to the project's root.
        cache_dir: where features are kept between runs, relative to the project's root.
        model: the diffusion model.
        vision: the vision model that prompts look with.
        features: where features are read.
        evaluation: how matches are made and scored.
        baselines: the methods compared with.
        datasets: name -> dataset.
        training: how prompts are learned.
        notebooks: how the notebooks are run.
        captioner: the implicit captioner's weights, or None where there are none.
        world: what this experiment's numbers are and are not evidence for, in a few sentences of Markdown.
        decided_by: the profile that decides what this one is too small for, or "".
        prepare: what must be generated before the data can be read: "minipair", "minipair-whole" with all of
            its test split, or "" for nothing.
    """

    name: str = field(metadata=NAME)
    seed: int = field(metadata={"min": 0, "max": 2**32 - 1})
    results_dir: str
    cache_dir: str
    model: ModelConfig
    vision: VisionConfig
    features: FeatureConfig
    evaluation: EvaluationConfig
    baselines: BaselinesConfig
    datasets: dict[str, DatasetConfig] = field(metadata=NAME)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    notebooks: NotebooksConfig = field(default_factory=NotebooksConfig)
    captioner: str | None = None
    world: str = ""
    decided_by: str = ""
    prepare: Literal["", "minipair", "minipair-whole"] = ""

    @property
    def hash(self) -> str:
        """The first 8 hexadecimal digits of the SHA-256 of the profile's sorted JSON."""
        return sha256_text(json.dumps(self.to_dict(), sort_keys=True))[:8]

    @property
    def results_path(self) -> Path:
        """The results' folder as an absolute path."""
        return resolve_path(self.results_dir)

    @property
    def cache_path(self) -> Path:
        """The cache's folder as an absolute path."""
        return resolve_path(self.cache_dir)

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as plain, JSON-able data."""
        return dataclasses.asdict(self)

    def dataset(self, name: str) -> DatasetConfig:
        """Return one dataset's configuration.

        Raises:
            UserError: the profile has no dataset of that name.
        """
        if name not in self.datasets:
            known = ", ".join(sorted(self.datasets))
            raise UserError(f"profile {self.name!r} has no dataset {name!r}; it has: {known}.")
        return self.datasets[name]


def profile_names() -> list[str]:
    """Return the names of the profiles that the package ships, sorted."""
    return sorted(path.stem for path in package_path("config").glob("*.toml"))


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a profile.

    Args:
        name_or_path: a shipped profile's name ("mini", "smoke", "paper") or the path of a TOML file. A file
            may say `extends = "<name or path relative to it>"` and then state only what differs.

    Raises:
        UserError: there is no such profile, the file is not TOML, or one of its keys is unknown, missing, of
            the wrong type or out of range; the message names file and key.
    """
    path = _find(str(name_or_path), Path.cwd())
    return parse_dataclass(Profile, _read_table(path, seen=()), where=str(path))


def resize_profile(profile: Profile, scale: float) -> Profile:
    """Return the profile with a network input `scale` times as large, and all else the same.

    Points are then scored in the frame of that size, which changes no fraction; the evaluation's sigma grows
    with the grid.

    Raises:
        UserError: a side would not be a multiple of 8 pixels, which the model needs.
    """
    sides = [round(side * scale) for side in profile.model.image_hw]
    if any(side < 8 or side % 8 for side in sides):
        raise UserError(
            f"{sides[0]} x {sides[1]} pixels: both sides must be multiples of 8; change the scale."
        )
    model = dataclasses.replace(profile.model, image_hw=(sides[0], sides[1]))
    evaluation = dataclasses.replace(profile.evaluation, sigma=profile.evaluation.sigma * scale)
    return dataclasses.replace(profile, model=model, evaluation=evaluation)


def _find(name_or_path: str, base: Path) -> Path:
    if name_or_path in profile_names():
        return package_path(f"config/{name_or_path}.toml")
    path = base / user_path(name_or_path)
    if path.suffix == ".toml" and path.is_file():
        return path
    names = ", ".join(profile_names())
    raise UserError(f"there is no profile {name_or_path!r}; use one of {names}, or the path of a .toml file.")


def _read_table(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in seen:
        raise UserError(f"{path}: 'extends' leads back to the file itself; remove it there.")
    if len(seen) > _DEEPEST:
        raise UserError(f"{path}: more than {_DEEPEST} profiles extend each other; state things in fewer.")
    table = read_toml(path, fix="correct it")
    parent = table.pop("extends", None)
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise UserError(f"{path}: 'extends' must be a profile's name or path, not {parent!r}.")
    return _merge(_read_table(_find(parent, path.parent), (*seen, path)), table)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged
