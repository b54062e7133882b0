"""What a profile needs and what is here: data, weights, disk, memory, GPU, versions; and what to do next."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sd4match_lib.backbones.weights import FoundModel, find_diffusion, find_vision, is_hub_id
from sd4match_lib.config.names import DATASETS
from sd4match_lib.config.profile import Profile
from sd4match_lib.config.schema import DatasetConfig, ModelConfig, VisionConfig
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.data.types import PairDataset
from sd4match_lib.errors import UserError, one_line, reason
from sd4match_lib.runs.machine import versions
from sd4match_lib.utils.files import check_output
from sd4match_lib.utils.paths import PACKAGE_PREFIX, resolve_path
from sd4match_lib.utils.reading import read_tensor_header

_RENDER = "run `sd4match miniature render`; `sd4match reproduce` does it by itself"
_GB = 1e9
_DISK_GB, _DISK_GB_PER_MODEL, _MEMORY_GB = 2, 6, 4
_CPU_PIXELS = 256 * 256
"""Above this input size, diffusion features take minutes per picture on a CPU."""


class Status(StrEnum):
    """How a finding stands."""

    OK = "ok"
    NOTE = "note"
    """Not as it might be, but nothing fails for it."""
    MISSING = "missing"
    """Something that the profile needs is not here or damaged."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: "data", "weights", "machine", "verdict" or "time".
        subject: what was looked at.
        status: how it stands.
        detail: what was found, in one line.
        fix: what to do about it, in one line; empty where nothing is to be done.
    """

    section: str
    subject: str
    status: Status
    detail: str
    fix: str = ""


def check(profile: Profile) -> list[Finding]:
    """Look at everything that a profile needs, without changing or fetching anything.

    Large weights are hashed, as loading them would do, and the hashes remembered in the profile's cache.

    Returns:
        The findings by section; the last one is the verdict with the next step.
    """
    findings = [*_check_data(profile), *_check_weights(profile)]
    fetches = sum(finding.section == "weights" and finding.status is not Status.OK for finding in findings)
    findings += [*_check_space(profile, fetches), _check_gpu(profile)]
    listing = ", ".join(f"{name} {version}" for name, version in versions().items())
    findings.append(Finding("machine", "versions", Status.OK, listing))
    return [*findings, _verdict(profile, findings)]


def _check_data(profile: Profile) -> Iterator[Finding]:
    for name, config in profile.datasets.items():
        splits = _layout(config).splits
        if not config.path.exists():
            counts = ", ".join(f"{count:,} {split}" for split, count in config.published_counts.items())
            detail = f"nothing at {config.path}" + (f"; published {counts} pairs" if counts else "")
            yield _missing_data(profile, name, config, detail)
        else:
            yield from (_check_split(profile, f"{name} {split}", config, split) for split in splits)


def _layout(config: DatasetConfig) -> type[PairDataset]:
    layout: type[PairDataset] = DATASETS.load(config.kind)
    return layout


def _missing_data(profile: Profile, subject: str, config: DatasetConfig, detail: str) -> Finding:
    if profile.prepare:
        return Finding("data", subject, Status.NOTE, detail, _RENDER)
    status = Status.NOTE if config.optional else Status.MISSING
    return Finding("data", subject, status, detail, _layout(config).how_to_get.format(root=config.path))


def _check_split(profile: Profile, subject: str, config: DatasetConfig, split: str) -> Finding:
    """Count a split's pairs, and read its first and last one."""
    published = config.published_counts.get(split)
    beside = "" if published is None else f"; published {published:,}"
    try:
        dataset = open_dataset(dataclasses.replace(config, max_pairs={}), split)
        for pair in (dataset[0], dataset[-1]) if len(dataset) else ():
            pair.src.read()
            pair.trg.read()
    except UserError as error:
        return _missing_data(profile, subject, config, f"{error}{beside}")
    count = len(dataset)
    detail = f"{count:,} pairs{beside}"
    if split in config.max_pairs:
        detail += f"; this profile uses {min(count, config.max_pairs[split]):,}"
    if not count:
        return _missing_data(profile, subject, config, detail)
    known = _layout(config).known_counts.get((split, count))
    if published in (None, count) or known:
        return Finding("data", subject, Status.OK, detail + (f" ({known})" if known else ""))
    fix = "the list is not the published one, so results will not be comparable; fetch it again"
    return Finding("data", subject, Status.NOTE, detail, fix)


def _check_weights(profile: Profile) -> Iterator[Finding]:
    sd_dino = profile.baselines.sd_dino.model
    models: list[tuple[str, ModelConfig | VisionConfig]] = [("diffusion", profile.model)]
    models.append(("vision", profile.vision))
    # The same sources and hash are the same weights, whatever size and type they are run in.
    if (sd_dino.sources, sd_dino.sha256) != (profile.model.sources, profile.model.sha256):
        models.append(("SD+DINO", sd_dino))
    if profile.baselines.dino is not None:
        models.append(("DINO", profile.baselines.dino))
    for subject, config in models:
        yield _check_model(profile, subject, config)
    if profile.captioner is not None:
        yield _check_captioner(resolve_path(profile.captioner))


def _check_captioner(path: Path) -> Finding:
    train = "train it: docs/howto/pretrain_the_miniature.md"
    if not path.is_file():
        fix = f"only the implicit captioner needs it: {train}"
        return Finding("weights", "captioner", Status.NOTE, f"{path} does not exist", fix)
    try:
        read_tensor_header(path)
    except UserError as error:
        return Finding("weights", "captioner", Status.MISSING, str(error), f"copy it again, or {train}")
    return Finding("weights", "captioner", Status.OK, str(path))


def _check_model(profile: Profile, subject: str, config: ModelConfig | VisionConfig) -> Finding:
    find: Callable[..., FoundModel] = find_diffusion if isinstance(config, ModelConfig) else find_vision
    try:
        found = find(config, profile.cache_path, download=False)
    except UserError as error:
        # A folder that is there but incomplete or altered needs the loader's own words.
        some = any(resolve_path(source).is_dir() for source in config.sources)
        detail = str(error) if some else _tried(config)
        status, fix = _how_to_get(profile, config)
        return Finding("weights", subject, status, detail, fix)
    return Finding("weights", subject, Status.OK, f"{found.source}, sha256 {found.sha256[:12]}")


def _tried(config: ModelConfig | VisionConfig) -> str:
    """The sources that were tried, when none of them is on this disk at all."""
    reasons = (
        f"{source} ({'hub id, not downloaded' if is_hub_id(source) else 'no such folder'})"
        for source in config.sources
    )
    return f"not found; tried {', '.join(reasons)}"


def _how_to_get(profile: Profile, config: ModelConfig | VisionConfig) -> tuple[Status, str]:
    """Whether a model that is not on this disk stops the profile, and how to get it."""
    hubs = [source for source in config.sources if is_hub_id(source)]
    folders = [source for source in config.sources if source not in hubs]
    if any(source.startswith(PACKAGE_PREFIX) for source in folders):
        return Status.MISSING, "install the package again, or make the weights: `sd4match miniature pretrain`"
    copy = (
        f"copy the model to {folders[0]}"
        if folders
        else "name a local folder first in the profile's `sources`"
    )
    if hubs and not profile.notebooks.offline:
        return Status.NOTE, f"it is fetched from the hub id {hubs[0]} on first use; without a network, {copy}"
    return Status.MISSING, copy


def _check_space(profile: Profile, fetches: int) -> Iterator[Finding]:
    import psutil

    results = profile.results_path
    folder = next(parent for parent in (results, *results.parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free / _GB
    needed = _DISK_GB + _DISK_GB_PER_MODEL * fetches
    yield Finding(
        "machine",
        "disk",
        Status.OK if free >= needed else Status.NOTE,
        f"{free:.0f} GB free in {folder}; about {needed} GB are needed for models, caches and results",
        "" if free >= needed else "make room, or point `results_dir` and `cache_dir` elsewhere",
    )
    for name, place in (("results_dir", profile.results_path), ("cache_dir", profile.cache_path)):
        try:
            check_output(place / "file")
        except UserError as error:
            yield Finding(
                "machine", name, Status.MISSING, str(error), f"name another `{name}` in the profile"
            )
    memory = psutil.virtual_memory()
    enough = memory.available / _GB >= _MEMORY_GB
    yield Finding(
        "machine",
        "memory",
        Status.OK if enough else Status.NOTE,
        f"{memory.available / _GB:.0f} GB available of {memory.total / _GB:.0f} GB",
        "" if enough else f"close other programs: less than {_MEMORY_GB} GB may not be enough",
    )


def _check_gpu(profile: Profile) -> Finding:
    import torch  # here, so that importing this module stays quick

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        detail = f"{properties.name}, {properties.total_memory / _GB:.0f} GB"
        if torch.cuda.device_count() > 1:
            detail += f", the first of {torch.cuda.device_count()}"
        return Finding("machine", "GPU", Status.OK, detail)
    height, width = profile.model.image_hw
    if height * width <= _CPU_PIXELS:
        return Finding("machine", "GPU", Status.OK, f"none; pictures of {width} x {height} need none")
    fix = f"use a machine with a CUDA GPU: a picture of {width} x {height} takes minutes on a CPU"
    return Finding("machine", "GPU", Status.NOTE, "none that PyTorch can use", fix)


def _verdict(profile: Profile, findings: list[Finding]) -> Finding:
    command = f"sd4match reproduce --profile {profile.name}"
    missing = [finding for finding in findings if finding.status is Status.MISSING]
    notes = sum(finding.status is Status.NOTE for finding in findings)
    if missing:
        names = ", ".join(finding.subject for finding in missing)
        fix = f"begin with {missing[0].subject}, then run `sd4match doctor --profile {profile.name}` again"
        return Finding("verdict", profile.name, Status.MISSING, f"not ready, for want of: {names}", fix)
    remarks = f", with {notes} {'note' if notes == 1 else 'notes'} above" if notes else ""
    return Finding("verdict", profile.name, Status.OK, f"ready{remarks}", f"run `{command}`")


def time_here(profile: Profile) -> list[Finding]:
    """Time a few steps on this machine's GPU, and say what the paper's notebooks take at that rate.

    Args:
        profile: what is wanted; of one that does not make the paper's own tables no hours are known.

    Returns:
        What was found; nothing without a GPU.
    """
    from torch import OutOfMemoryError

    from sd4match_lib.backbones.device import resolve_device
    from sd4match_lib.report.comparison import is_comparable
    from sd4match_lib.reproduce.timing import time_notebooks

    device = resolve_device(None)
    if device.type == "cpu" or not is_comparable(profile, "spair"):
        return []
    try:
        return [Finding("time", what, Status.OK, told) for what, told in time_notebooks(profile, device)]
    except OutOfMemoryError as error:
        fix = "raise training.accumulate, or set training.checkpoint_activations"
        return [Finding("time", "GPU", Status.NOTE, f"a training step does not fit: {reason(error)}", fix)]
    except UserError as error:
        return [Finding("time", "GPU", Status.NOTE, str(error))]


_MARKS = {Status.OK: "ok", Status.NOTE: "note", Status.MISSING: "MISSING"}


def format_report(findings: Sequence[Finding]) -> str:
    """Return the findings as text: a block per section, a line per finding, an indented line per fix.

    A fix that holds for several findings in a row is told once, after the last of them.
    """
    width = max((len(finding.subject) for finding in findings), default=0)
    lines: list[str] = []
    for place, finding in enumerate(findings):
        if place == 0 or finding.section != findings[place - 1].section:
            lines += [*([""] if lines else []), finding.section.capitalize()]
        detail = one_line(finding.detail)
        lines.append(f"  {_MARKS[finding.status]:<8}{finding.subject:<{width}}  {detail}".rstrip())
        following = findings[place + 1].fix if place + 1 < len(findings) else ""
        if finding.fix and finding.fix != following:
            lines.append(f"{'':<10}-> {one_line(finding.fix)}")
    return "\n".join(lines)
