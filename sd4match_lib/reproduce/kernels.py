"""Kernels for notebooks in batch: this environment's own, isolated, and the next one started ahead.

A kernel's imports take some seconds of one core, which a notebook that draws or reads leaves idle.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from sd4match_lib.backbones.loading import importing
from sd4match_lib.config.profile import Profile
from sd4match_lib.utils.files import atomic_write_text, scratch_folder

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager

_MODELS = {
    "diffusers": ("AutoencoderKL", "DDIMScheduler", "UNet2DConditionModel"),
    "transformers": ("CLIPTextModel", "CLIPTokenizer"),
}
_IMPORTS = "__import__('sd4match_lib.reproduce.kernels', fromlist=['']).import_ahead();"
"""The semicolon keeps IPython from showing what it answers."""


def import_ahead() -> None:
    """Import what most of a notebook's start is; called in a kernel that is started ahead."""
    with importing("diffusers"):
        for library, names in _MODELS.items():
            for name in names:
                getattr(import_module(library), name)
    import_module("sd4match_lib.reproduce.study")


def pack(message: Any) -> bytes:
    """Pack a kernel's message as Jupyter does, or with text that is not valid Unicode escaped.

    Jupyter's own packers fail on such text, where nobody is told but whoever reads their tracebacks.
    """
    from jupyter_client.session import json_default, json_packer

    try:
        return json_packer(message)
    except UnicodeEncodeError:
        return json.dumps(message, default=json_default).encode()


class _Kernel:
    """A started kernel, with what belongs to it alone.

    Attributes:
        manager: jupyter_client's; its process, connection file and, once a notebook runs, its client.
    """

    def __init__(self, cwd: Path, arguments: list[str], scratch: TemporaryDirectory[str]) -> None:
        """Start one."""
        from jupyter_client.manager import AsyncKernelManager
        from jupyter_core.utils import run_sync
        from traitlets.config import Config

        clients: list[Any] = []

        class Manager(AsyncKernelManager):
            def client(self, **options: Any) -> Any:
                clients.append(super().client(**options))
                return clients[-1]

        self.manager: KernelManager = Manager(
            kernel_name="python3", config=Config({"KernelManager": {"transport_encryption": "auto"}})
        )
        self._clients, self._scratch = clients, scratch
        # Typed like the manager that waits, though it is awaited.
        start: Any = self.manager.start_kernel
        run_sync(start)(extra_arguments=arguments, cwd=str(cwd))

    def end(self) -> None:
        """End process and client, and delete what the kernel wrote for itself."""
        from jupyter_core.utils import run_sync

        shutdown: Any = self.manager.shutdown_kernel
        try:
            run_sync(_drop_tasks)()
            # nbclient leaves open what it did not start.
            for client in self._clients:
                client.stop_channels()
            run_sync(shutdown)(now=True)
        finally:
            self._scratch.cleanup()


class Kernels:
    """The kernels of one run over notebooks, one notebook each; used as a context, which ends a spare one."""

    def __init__(self, profile: Profile, cwd: Path, fresh_since: str = "") -> None:
        """Start none yet.

        Args:
            profile: decides whether kernels may use the network.
            cwd: their working directory.
            fresh_since: runs that began before this moment do not count as complete (`run_record.utc`).
        """
        self._profile, self._cwd, self._fresh_since = profile, cwd, fresh_since
        self._spare: _Kernel | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the kernel that no notebook took."""
        if self._spare is not None:
            self._spare.end()
            self._spare = None

    def start_ahead(self) -> None:
        """Start the kernel that the next `take` gives; it imports meanwhile what notebooks need."""
        if self._spare is None:
            self._spare = self._start([f"--IPKernelApp.exec_lines={_IMPORTS}"])

    @contextmanager
    def take(self) -> Iterator[KernelManager]:
        """Give a kernel for one notebook, and end it afterwards, whatever happened.

        Raises:
            RuntimeError: the kernel does not come up.
        """
        kernel, self._spare = self._spare or self._start([]), None
        try:
            yield kernel.manager
        finally:
            kernel.end()

    def _start(self, arguments: list[str]) -> _Kernel:
        scratch = scratch_folder()
        with _environment(self._profile, scratch.name, self._fresh_since):
            return _Kernel(self._cwd, arguments, scratch)


async def _drop_tasks() -> None:
    """Stop waiting for the cell that ran when the command was stopped: it would report a dead kernel."""
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@contextmanager
def _environment(profile: Profile, scratch: str, fresh_since: str) -> Iterator[None]:
    """Set what the kernel inherits, and take it back afterwards."""
    before = dict(os.environ)
    os.environ["SD4MATCH_HEADLESS"] = "1"
    # The kernel of this very environment, without the user's start-up files or traces in the home folder.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["JUPYTER_RUNTIME_DIR"] = f"{scratch}/runtime"
    os.environ["IPYTHONDIR"] = f"{scratch}/ipython"
    # Who runs the cells tells what becomes of them; a kernel that is stopped would add its own tracebacks.
    quiet = {"IPKernelApp": {"log_level": logging.CRITICAL}}
    settings = json.dumps({**quiet, "Session": {"packer": f"{__name__}.{pack.__name__}"}})
    atomic_write_text(f"{scratch}/ipython/profile_default/ipython_kernel_config.json", settings)
    if data := os.environ.get("SD4MATCH_DATA"):
        os.environ["SD4MATCH_DATA"] = os.path.abspath(data)
    if profile.notebooks.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if fresh_since:
        os.environ["SD4MATCH_FRESH_SINCE"] = fresh_since
    # With a backend set, ipykernel leaves inline figures out.
    os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
