"""How fast synthetic faces are rendered: faces a second, the workers' start included.

    python -m benchmarks.rendering

Each size is rendered several times into a fresh folder; the middle reading and
the range are printed. Frontal, +-45 and +-90 degrees in equal parts, studio scenes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time

from tfds_builders.synthface import presets, sets


def faces_per_second(size: int, people: int, workers: int, seed: int) -> float:
    """One reading: `people` times 35 faces of `size` pixels, as JPEG files on disk."""
    spec = dataclasses.replace(presets.kdef_like(seed, people, size), sessions=1)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        sets.generate(spec, folder, workers, progress=False)
        return people * spec.images_per_subject / (time.perf_counter() - started)


def main() -> None:
    """Prints one line a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    for size in options.sizes:
        readings = [
            faces_per_second(size, options.people, options.workers, seed)
            for seed in range(options.repeats)
        ]
        print(
            f"{size} px, 2x supersampling, {options.workers} workers: "
            f"{statistics.median(readings):.1f} faces/s "
            f"({min(readings):.1f} to {max(readings):.1f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
