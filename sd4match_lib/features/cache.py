"""Keeping tensors: on disk by their content, and in memory up to a limit."""

import logging
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from sd4match_lib.errors import WriteError, reason
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.fingerprint import content_hash
from sd4match_lib.utils.reading import read_tensor_header

_log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


class DiskCache:
    """Tensors in safetensors files, named after the hash of everything that they depend on."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], shapes: Shapes | None = None) -> None:
        """Open a cache.

        Args:
            folder: shared by any number of caches.
            settings: plain data that every entry depends on: hashes of weights, sizes, types.
            shapes: of the tensors that every entry holds, where they are the same in all.
        """
        self.folder = folder
        self._shapes = shapes
        self._settings = dict(settings)

    def path(self, key: str) -> Path:
        """Return where the entry of `key` lies or would lie."""
        name = content_hash({"settings": self._settings, "key": key})
        return self.folder / name[:2] / f"{name[2:34]}.safetensors"

    def get(self, key: str) -> Tensors | None:
        """Return an entry, or None where there is none; a damaged one is reported and counts as none."""
        path = self.path(key)
        if not path.exists():
            return None
        try:
            read_tensor_header(path)  # promises no more than it holds
            tensors = load(path.read_bytes())
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            if self._shapes is not None and shapes != self._shapes:
                raise ValueError(f"it holds {shapes}, not {self._shapes}")
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("it holds numbers that are not finite")
        except Exception as error:  # the library raises anything from SafetensorError to AttributeError
            _log.warning("%s is damaged (%s) and is computed again.", path, reason(error))
            return None
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Write an entry atomically; a full disk is reported once per entry and otherwise ignored."""
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        try:
            if self.path(key).is_symlink():  # caches may come from elsewhere: nothing is written through them
                self.path(key).unlink()
            atomic_write_bytes(self.path(key), data)
        except (OSError, WriteError) as error:
            _log.warning("%s could not be kept (%s); it will be computed again.", self.path(key), error)

    def clear(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


class MemoryCache:
    """The most recently used tensors up to a number of bytes; what does not fit moves to disk, or is dropped.

    Attributes:
        used: bytes held in memory now.
    """

    def __init__(self, limit: int, overflow: DiskCache | None) -> None:
        """Hold at most `limit` bytes, and the rest in `overflow`, or nowhere where that is None."""
        self.limit = limit
        self.used = 0
        self._overflow = overflow
        self._entries: OrderedDict[str, Tensors] = OrderedDict()

    def get(self, key: str) -> Tensors | None:
        """Return an entry, from memory or from disk, or None where there is none."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        found = self._overflow.get(key) if self._overflow else None
        if found is not None:
            self._insert(key, found)
        return found

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep an entry, pushing the least recently used ones out to disk when it gets too much."""
        # Cloned: a slice would hold on to its whole batch.
        self._insert(key, {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()})

    def clear(self) -> None:
        """Forget everything, what moved to disk too."""
        self._entries.clear()
        self.used = 0
        if self._overflow:
            self._overflow.clear()

    def _insert(self, key: str, tensors: Tensors) -> None:
        self.used += _size(tensors) - _size(self._entries.pop(key, {}))
        self._entries[key] = tensors
        while self.used > self.limit and len(self._entries) > 1:
            oldest, pushed = self._entries.popitem(last=False)
            self.used -= _size(pushed)
            if self._overflow and not self._overflow.path(oldest).is_file():
                self._overflow.put(oldest, pushed)


def _size(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
