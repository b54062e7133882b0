"""Models loaded into memory once per process, shared by everything that reads them.

A model is known by the hash of its files, its device, its type and how deep it is read; the least recently
used ones go when the limit is passed.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from sd4match_lib.backbones.base import DiffusionBackbone, TextEncoder
from sd4match_lib.backbones.device import resolve_dtype
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.backbones.weights import FoundModel
from sd4match_lib.config.names import BACKBONES
from sd4match_lib.config.schema import ModelConfig, VisionConfig

LIMIT_BYTES = 4 * 2**30
"""Weights kept for the next request: SD2-1 and SD1-5 in half precision, cut behind the layer that is read."""

_ONE_AT_A_TIME = threading.Lock()
"""Two threads that want the same model wait for one copy of it."""

_loaded: OrderedDict[tuple[Any, ...], tuple[Any, int]] = OrderedDict()


def diffusion_model(
    found: FoundModel, config: ModelConfig, layers: tuple[str, ...], device: torch.device
) -> DiffusionBackbone:
    """Return the diffusion model of a folder, ready for reading `layers`.

    Raises:
        UserError: a part of it is unreadable, or there is no such layer.
    """

    def load() -> DiffusionBackbone:
        backbone: DiffusionBackbone = BACKBONES.load(config.backbone).from_folder(
            found.folder, layers=layers, dtype=resolve_dtype(config.dtype), device=device
        )
        if config.fast and layers:
            backbone.make_fast(layers)
        return backbone

    how = config.backbone, config.dtype, config.fast
    key = ("diffusion", found.sha256, *how, tuple(sorted(layers)), str(device))
    model: DiffusionBackbone = _once(key, load)
    return model


def vision_model(found: FoundModel, config: VisionConfig, device: torch.device) -> VisionFeatures:
    """Return the vision model of a folder, fed as `config` says.

    Raises:
        UserError: it is unreadable, or does not fit the configuration.
    """
    key = ("vision", found.sha256, config, str(device))
    model: VisionFeatures = _once(
        key, lambda: VisionFeatures.from_folder(found.folder, config, device=device)
    )
    return model


def forget_models() -> None:
    """Let go of all models."""
    _loaded.clear()


def _once(key: tuple[Any, ...], load: Callable[[], Any]) -> Any:
    with _ONE_AT_A_TIME:
        if key not in _loaded:
            model = load()
            _loaded[key] = model, _size(model)
            while len(_loaded) > 1 and sum(size for _, size in _loaded.values()) > LIMIT_BYTES:
                _loaded.popitem(last=False)
        _loaded.move_to_end(key)
        return _loaded[key][0]


def _size(model: Any) -> int:
    """Bytes of a model's weights: of every module that it holds, and of its text encoders' modules."""
    modules, holders = [], [model]
    while holders:
        parts = list(vars(holders.pop()).values())
        modules += [part for part in parts if isinstance(part, torch.nn.Module)]
        holders += [part for part in parts if isinstance(part, TextEncoder)]
    weights = {id(weight): weight for module in modules for weight in module.parameters()}
    return sum(weight.numel() * weight.element_size() for weight in weights.values())
