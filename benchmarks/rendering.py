"""Rendering speed of synthetic faces, including the start of the workers.

    python -m benchmarks.rendering

Renders each size several times into a new folder; prints the median and the range. Equal parts of
frontal, +-45 and +-90 degrees; studio scenes.
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
    """Measures one rendering: 35 faces of `size` pixels per person, as JPEG files on disk."""
    spec = dataclasses.replace(presets.kdef_like(seed, people, size), sessions=1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        sets.generate(spec, folder, workers, progress=False)
        return people * spec.images_per_subject / (time.perf_counter() - start)


def main() -> None:
    """Prints one line per size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    for size in options.sizes:
        rates = [
            faces_per_second(size, options.people, options.workers, seed)
            for seed in range(options.repeats)
        ]
        print(
            f"{size} px, 2x supersampling, {options.workers} workers: "
            f"{statistics.median(rates):.1f} faces/s "
            f"({min(rates):.1f} to {max(rates):.1f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
