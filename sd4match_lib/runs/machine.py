"""What a record says about where it was made: versions, device, commit, memory."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

import sd4match_lib
from sd4match_lib.utils.paths import package_path

_PACKAGES = ("torch", "diffusers", "transformers", "numpy")
# Results themselves change while notebooks run and must not make the commit that they follow from look dirty.
_SOURCES = ("sd4match_lib", "notebooks", "pyproject.toml", "constraints.txt")


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that numbers depend on."""
    found = {"python": platform.python_version(), "sd4match": sd4match_lib.__version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_device(device: str = "cpu") -> str:
    """Return a device with its name, e.g. "cuda:0 (NVIDIA H100)" or "cpu (x86_64, 2 cores)"."""
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device == "cpu":
        return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
    return device


def git_commit() -> dict[str, Any]:
    """Return {"id": commit, "dirty": whether sources differ from it}, or an empty dict outside a checkout."""
    root = package_path("").parent
    top = _git("rev-parse", "--show-toplevel")
    # An installed copy may lie inside somebody else's repository: that commit says nothing about this code.
    if top is None or os.path.realpath(top) != os.path.realpath(root):
        return {}
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"id": commit, "dirty": bool(_git("status", "--porcelain", "--", *_SOURCES))}


def peak_memory_mb() -> dict[str, float]:
    """Return the process's peak memory so far in MB: {"host": ..} and, where CUDA was used, {"cuda": ..}."""
    peak = {}
    if sys.platform == "win32":
        import psutil

        peak["host"] = psutil.Process().memory_info().peak_wset / 2**20
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["cuda"] = torch.cuda.max_memory_allocated() / 2**20
    return {name: round(value, 1) for name, value in peak.items()}


def process_start() -> float:
    """Return when this process began, in seconds since the epoch."""
    import psutil

    return float(psutil.Process().create_time())


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(package_path("").parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
