"""Time and peak memory of `fer-jax predict --shards` as the number of photos grows.

    python -m benchmarks.corpora --photos 1000 20000

Tiny photos that are faces already, so that what grows with the corpus is not hidden by detection.
The result is a table: memory must not grow with the number of photos.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

_SIDE = 48  # pixels
_IN_FOLDER = 1_000


def write_photos(folder: Path, count: int) -> None:
    """Writes `count` different PNG files of 48 x 48 pixels into subfolders of 1,000."""
    image = np.random.default_rng(0).integers(0, 255, (_SIDE, _SIDE, 3), np.uint8)
    for number in range(count):
        image[0, 0] = number % 256, number // 256 % 256, number // 65536
        place = folder / f"{number // _IN_FOLDER:06}"
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number:09}.png"), image)


def measure(folder: Path, out: Path, workers: int) -> tuple[float, float]:
    """Predicts a folder; returns wall seconds and the peak MB of the largest process."""
    command = [sys.executable, "-m", "fer_jax", "predict", str(folder), "--faces", "whole"]
    command += ["--out", str(out), "--shards", "csv", "--workers", str(workers)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status))
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row per number of photos."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[1_000, 20_000])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    print("| photos | seconds | peak memory of the largest process |\n|---|---|---|")
    for count in options.photos:
        with tempfile.TemporaryDirectory() as place:
            write_photos(Path(place) / "photos", count)
            seconds, peak = measure(Path(place) / "photos", Path(place) / "out", options.workers)
        print(f"| {count:,} | {seconds:,.0f} | {peak:,.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
