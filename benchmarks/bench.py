"""How fast the library is here, beside what was counted and beside a large matrix product: `make bench`.

    python -m benchmarks.bench                                  the miniature
    python -m benchmarks.bench --shapes sd21 --side 256         SD2-1's true shapes, random weights
    python -m benchmarks.bench --compare benchmarks/results/... what got slower

Each case runs in a process of its own, so that its peak memory is its own. Runs are kept in one JSON file a
machine and shape, with a table and a figure over versions beside it (`history`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import CASES, Setting
from sd4match_lib.backbones.device import resolve_device, resolve_dtype
from sd4match_lib.config.profile import Profile, load_profile
from sd4match_lib.reproduce.prepare import minipair_root, prepare_data
from sd4match_lib.runs.machine import describe_device, git_commit, versions
from sd4match_lib.runs.record import utc
from sd4match_lib.utils.files import scratch_folder

RESULTS = Path(__file__).parent / "results"
SHORTEST_S, FEWEST = 2.0, 3
SLOWER = 1.1
"""A case counts as slower when its median took this many times as long."""


def main() -> int:
    """Run the cases, keep their numbers, and print them; 1 where one got slower than `--compare` says."""
    arguments = _parse()
    # Read first: the new numbers may take the place of those that they are compared with.
    before = json.loads(arguments.compare.read_text())["runs"][-1] if arguments.compare else None
    with scratch_folder() as scratch:
        profile = arguments.profile or str(_profile(arguments, Path(scratch)))
        if arguments.case:
            sys.stdout.write(json.dumps(measure(arguments.case, load_profile(profile), arguments)) + "\n")
            return 0
        device = str(resolve_device(arguments.device))
        found: dict[str, Any] = {"shapes": f"{arguments.shapes}{'-fast' if arguments.fast else ''}"}
        found |= {"side": load_profile(profile).model.image_hw[0]}
        found |= {"device": describe_device(device), "threads": torch.get_num_threads(), "time": utc()}
        found |= {"versions": versions(), "commit": git_commit(), "cases": {}}
        for name in arguments.only or CASES:
            found["cases"][name] = _in_own_process(name, profile, arguments)
            sys.stdout.write(_line(name, found["cases"][name]) + "\n")
    slug = re.sub(r"\W+", "-", f"{found['device']}-{found['shapes']}-{found['side']}").strip("-").lower()
    # Here, so that what draws figures is not in the memory of a case's own process.
    from benchmarks.history import keep_run

    keep_run(RESULTS, slug, found)
    return _compare(found["cases"], before) if before else 0


def measure(name: str, profile: Profile, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one case in this process: medians over repetitions after a warm-up, and its counted operations.

    Args:
        name: of the case.
        profile: on which models and data.
        arguments: with `device`, `batch`, and `fast` for the compiled UNet.
    """
    device = resolve_device(arguments.device)
    work = CASES[name](Setting(profile, device, arguments.batch))
    work.run()
    with FlopCounterMode(display=False) as counter:
        work.run()
    if arguments.fast:  # what is compiled cannot be counted
        quick = dataclasses.replace(profile, model=dataclasses.replace(profile.model, fast=True))
        work = CASES[name](Setting(quick, device, arguments.batch))
        work.run()
    wall, cpu = [], []
    begun = time.perf_counter()
    while len(wall) < FEWEST or time.perf_counter() - begun < SHORTEST_S:
        _finish(device)
        before = time.perf_counter(), time.process_time()
        work.run()
        _finish(device)
        wall.append(time.perf_counter() - before[0])
        cpu.append(time.process_time() - before[1])
    seconds = statistics.median(wall)
    counted = counter.get_total_flops() / 1e12
    product = _matmul_tflops(device, resolve_dtype(profile.model.dtype))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"unit": work.unit, "things": work.things, "repetitions": len(wall), "peak_mb": round(memory)}
    found |= {"seconds": seconds / work.things, "cpu_seconds": statistics.median(cpu) / work.things}
    if device.type == "cuda":
        found["gpu_peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return {
        **found,
        "counted_tflop": counted / work.things,
        "tflops": counted / seconds,
        "matmul_tflops": product,
        "share_of_matmul": counted / seconds / product,
    }


def _matmul_tflops(device: torch.device, dtype: torch.dtype, side: int = 2048) -> float:
    """The rate of a square matrix product of the model's type: what the machine can do at best."""
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    torch.mm(left, right)
    best = float("inf")
    for _ in range(5):
        _finish(device)
        begun = time.perf_counter()
        torch.mm(left, right)
        _finish(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best / 1e12


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _profile(arguments: argparse.Namespace, scratch: Path) -> Path | str:
    mini = load_profile("mini")
    prepare_data(mini)
    if arguments.shapes == "mini":
        return "mini"
    from benchmarks.stand_in import write_stand_in

    return write_stand_in(scratch, minipair_root(mini) / "SPair-71k", side=arguments.side)


def _in_own_process(name: str, profile: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.bench", "--case", name, "--profile", profile]
    command += ["--batch", str(arguments.batch)]
    command += ["--device", arguments.device] if arguments.device else []
    command += ["--fast"] if arguments.fast else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _line(name: str, found: dict[str, Any]) -> str:
    if "error" in found:
        return f"{name:<22} failed: {found['error']}"
    return (
        f"{name:<22} {found['seconds']:9.4f} s a {found['unit']:<10} {found['cpu_seconds']:9.4f} CPU s  "
        f"{found['peak_mb']:6d} MB  {found['counted_tflop']:8.4f} TFLOP  {found['tflops']:7.3f} TFLOP/s, "
        f"{100 * found['share_of_matmul']:3.0f} % of a matmul"
    )


def _compare(found: dict[str, Any], before: dict[str, Any]) -> int:
    slower = 0
    for name, now in found.items():
        then = before["cases"].get(name, {})
        if "seconds" in now and "seconds" in then:
            ratio = now["seconds"] / then["seconds"]
            slower += ratio > SLOWER
            sys.stdout.write(f"{name:<22} {ratio:5.2f} times as long as before\n")
    return int(slower > 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--shapes", choices=("mini", "sd21"), default="mini")
    parser.add_argument("--side", type=int, default=256, help="network input of sd21 in pixels; 768 on a GPU")
    parser.add_argument("--batch", type=int, default=3, help="pictures or pairs at a time")
    parser.add_argument("--device")
    parser.add_argument("--fast", action="store_true", help="with the compiled UNet, as [model] fast = true")
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="CASE")
    parser.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--profile", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
