"""What a table or figure rests on, in one sentence, as the records of its runs say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sd4match_lib.report.sentences import counted
from sd4match_lib.runs.record import RunRecord


@dataclass(frozen=True)
class Training:
    """How many optimizer steps a learned prompt comes from, 0 for an untrained start, and which seed."""

    steps: int
    seed: int


def describe_runs(records: Iterable[RunRecord], trainings: Mapping[str, Training] | None = None) -> str:
    """Say what runs were made with: pairs, matcher, timestep, ensemble, training steps and seeds.

    Args:
        records: of evaluations, scored predictions or trainings.
        trainings: hash of a prompt's weights (its identity's `weights`) to where the prompt comes from.

    Returns:
        Parts joined by semicolons, such as "108 test pairs of spair; sd: kernel_softargmax, t = 50, ensemble
        1; learned prompts: 50 steps, training seed 0; seed 0"; empty where there are no runs.
    """
    told = list(records)
    pairs: dict[str, None] = {}
    sizes: dict[str, None] = {}
    methods: dict[tuple[str, str, str], set[int]] = {}
    found = set()
    for record in told:
        config = record.config
        split = config.get("split", "training")
        pairs[f"{counted(config['pairs'], f'{split} pair')} of {config['dataset']}"] = None
        if record.kind == "train":
            found.add(Training(int(record.number("steps")), record.seed))
            continue
        prompt = config.get("prompt") or {}
        if (trainings or {}).get(prompt.get("weights", "")):
            found.add((trainings or {})[prompt["weights"]])
        if "image_hw" not in config:
            continue  # what looked at prompts only
        sizes[" x ".join(map(str, config["image_hw"]))] = None
        ensemble = config.get("ensemble")
        key = (
            str(config["extractor"] if "extractor" in config else config["method"]),
            "its own points" if record.kind == "score" else str(config.get("matcher", "correlation maps")),
            "" if ensemble is None else str(ensemble),
        )
        steps = methods.setdefault(key, set())
        if config.get("timestep") is not None:
            steps.add(int(config["timestep"]))
    parts = [*pairs, *(_method(key, steps) for key, steps in methods.items())]
    if len(sizes) > 1:
        parts.append(f"network inputs {', '.join(sizes)}")
    seeds = [record.seed for record in told if record.kind != "train"]
    return "; ".join([*parts, *_trainings(found), *([_seed_list(seeds)] if seeds else [])])


def _method(key: tuple[str, str, str], timesteps: set[int]) -> str:
    name, matcher, ensemble = key
    at = f", t = {', '.join(map(str, sorted(timesteps)))}" if timesteps else ""
    return f"{name}: {matcher}{at}{f', ensemble {ensemble}' if ensemble else ''}"


def _trainings(found: set[Training]) -> list[str]:
    if not found:
        return []
    steps = sorted({training.steps for training in found})
    words = [counted(count, "step") if count else "untrained starts" for count in steps]
    return [f"learned prompts: {', '.join(words)}, training {_seed_list(item.seed for item in found)}"]


def _seed_list(seeds: Iterable[Any]) -> str:
    known = sorted(set(seeds))
    return f"seed{'' if len(known) == 1 else 's'} {', '.join(map(str, known))}"
