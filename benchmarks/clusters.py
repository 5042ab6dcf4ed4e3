"""A Ray cluster against processes of this machine, on the same cores.

    ray start --head --node-ip-address 127.0.0.1 --num-cpus 1 --disable-usage-stats
    ray start --address 127.0.0.1:6379 --num-cpus 1
    fer-jax stand-in kdef kdef
    python -m benchmarks.clusters kdef

Finds and cuts faces as `fer-jax prepare` does, in alternating rounds. Measured from the moment
when all workers have started: their imports take seconds, once. CPU time includes this process,
which reads the files, the workers and Ray's own processes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from fer_jax.cluster import Cluster
from fer_jax.executor import IN_FLIGHT, Executor
from fer_jax.faces.crop import FaceCrop
from tfds_builders import crops, sources

_TICKS = os.sysconf("SC_CLK_TCK")  # per second


def cpu_seconds() -> float:
    """CPU seconds of this process, its children and all processes of Ray."""
    ticks = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes()
            fields = (place / "stat").read_text().rpartition(") ")[2].split()
        except OSError:  # it has ended
            continue
        is_ours = str(os.getpid()) in (place.name, fields[1])
        if is_ours or command.startswith(b"ray::") or b"/ray/core/" in command:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def measure(folder: Path, names: Sequence[str], executor: Executor, skip: int) -> list[float]:
    """Crops the images; returns images per second and CPU milliseconds per image."""
    requests = [crops.Request(name, name) for name in names]
    source, settings = sources.FolderSource(folder), FaceCrop(detector="haar")
    outcomes = crops.crop_all(source, requests, settings, executor)
    list(itertools.islice(outcomes, skip))
    wall, cpu = time.perf_counter(), cpu_seconds()
    count = sum(1 for _ in itertools.islice(outcomes, len(names) - skip))
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu  # the workers still run
    outcomes.close()
    return [count / wall, 1e3 * cpu / count]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row per kind of worker: medians and ranges."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="with JPEGs, such as a stand-in for KDEF")
    parser.add_argument("--workers", type=int, default=2, help="as many as the cluster has CPUs")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    found = sorted(path.relative_to(options.folder) for path in options.folder.rglob("*.JPG"))
    names = [path.as_posix() for path in itertools.islice(itertools.cycle(found), options.images)]
    executors = {"processes": Executor(options.workers), "Ray": Cluster("auto")}
    skip = 2 * options.workers * IN_FLIGHT * crops.PIECE
    results: dict[str, list[list[float]]] = {kind: [] for kind in executors}
    for _ in range(options.rounds):
        for kind, executor in executors.items():
            results[kind].append(measure(options.folder, names, executor, skip))
    print("| workers | images/s (range) | CPU ms per image (range) |\n|---|---|---|")
    for kind, rounds in results.items():
        cells = [
            f"{statistics.median(one):.1f} ({min(one):.1f} to {max(one):.1f})"
            for one in zip(*rounds, strict=True)
        ]
        print(f"| {kind} | {' | '.join(cells)} |")
    ratios = [ray[0] / local[0] for local, ray in zip(*results.values(), strict=True)]
    print(f"Ray / processes, images/s: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
