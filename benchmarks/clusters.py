"""A Ray cluster against processes of this machine, on the same cores.

    ray start --head --node-ip-address 127.0.0.1 --num-cpus 1 --disable-usage-stats
    ray start --address 127.0.0.1:6379 --num-cpus 1
    fer-jax stand-in kdef kdef
    python -m benchmarks.clusters kdef

Prepares and predicts the stand-in in alternating rounds, with one worker per CPU of the cluster.
CPU time includes the driver, the workers and Ray's own processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")  # per second
_REAPING = 3  # seconds until Ray has ended the workers of a job, and their time counts


def ray_seconds() -> float:
    """CPU seconds of Ray's processes on this machine, with those of workers that ended."""
    return sum(map(sum, _ray_times())) / _TICKS


def _ray_times() -> Iterator[list[int]]:
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes()
            fields = (place / "stat").read_text().rpartition(") ")[2].split()
        except OSError:  # it has ended
            continue
        if b"/ray/" in command or command.startswith(b"ray::"):
            yield [int(field) for field in fields[11:15]]  # utime, stime, and of its children


def measure(command: Sequence[str], is_ray: bool) -> tuple[float, float]:
    """Runs a command; returns its wall and CPU seconds."""
    before, start = ray_seconds(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "fer_jax", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status))
    time.sleep(_REAPING)
    return wall, usage.ru_utime + usage.ru_stime + (ray_seconds() - before if is_ray else 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row per verb and kind of worker: medians, ranges and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kdef", help="a stand-in for KDEF")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    kinds = {"processes": ["--workers", str(options.workers)], "Ray": ["--cluster", "auto"]}
    print("| verb | workers | wall, s (range) | CPU, s (range) |\n|---|---|---|---|")
    for verb in ("prepare", "predict"):
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            for kind, flags in kinds.items():
                with tempfile.TemporaryDirectory() as out:
                    inputs = {
                        "prepare": ["kdef", "--manual_dir", options.kdef, "--data_dir", out],
                        "predict": [options.kdef, "--out", out, "--shards", "parquet"],
                    }
                    found[kind].append(measure([verb, *inputs[verb], *flags], kind == "Ray"))
        for kind, times in found.items():
            cells = [
                f"{statistics.median(one):.1f} ({min(one):.1f} to {max(one):.1f})"
                for one in zip(*times, strict=True)
            ]
            print(f"| {verb} | {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
