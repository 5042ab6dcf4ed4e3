"""Time and peak memory of `fer-jax predict --shards` as the number of photos grows.

    python -m benchmarks.corpora --photos 1000 20000
    python -m benchmarks.corpora --stages

Tiny photos that are faces already, so that what grows with the corpus is not hidden by detection.
The result is a table: memory must not grow with the number of photos. `--stages` measures the CPU
time of each stage in one thread instead, on scenes of two rendered people (results/scaling.md).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fer_jax.executor import one_thread

_SIDE = 48  # pixels
_SIZES = ((640, 360), (1920, 1080))  # of photos, in pixels
_IN_FOLDER = 1_000


def write_photos(folder: Path, count: int, side: int = _SIDE) -> None:
    """Writes `count` different square PNG files into subfolders of 1,000."""
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
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


def stages(size: tuple[int, int], rounds: int) -> Iterator[tuple[str, float]]:
    """Yields each stage of a prediction and its CPU ms per photo: medians of `rounds`.

    Two faces are classified per photo; the video has as many frames as there are photos.
    """
    from benchmarks import prediction
    from fer_jax import run_dir
    from fer_jax.faces.decode import decode
    from fer_jax.faces.finder import FaceFinder
    from fer_jax.inference import corpus, sources
    from fer_jax.inference.model import Model

    model = Model(run_dir.open_run(run_dir.DEFAULT_RUN))
    finder = FaceFinder(model.framing)
    images = [cv2.resize(one, size) for one in prediction.scenes()]
    photo = ["photo.jpg", 1, "", None, None]
    row = [*photo, 0, 0, 0, 0, 0, "mtcnn", "anger", *[0.1] * len(model.labels)]
    made_of = {"labels": model.labels, "kind": "csv", "model": "0" * 16, "version": "0"}
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place) / f"{number}.jpg" for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            cv2.imwrite(str(path), image[..., ::-1])
        video = Path(place) / "video.mp4"
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
        for image in images:
            writer.write(image[..., ::-1])
        writer.release()
        encoded = [path.read_bytes() for path in paths]
        found = [finder.find(image, "all") for image in images]
        every = [face for faces in found for face in faces]
        rows = [row] * len(every)
        work: dict[str, Callable[[], Any]] = {
            "read": lambda: [path.read_bytes() for path in paths],
            "decode": lambda: [decode(one) for one in encoded],
            "find": lambda: [finder.detect(image) for image in images],
            "find and align": lambda: [finder.find(image, "all") for image in images],
            "classify": lambda: model.classify(every),
            "write": lambda: corpus.write_shard(Path(place) / "shard-000000.csv", rows, made_of),
            "read and decode a frame": lambda: list(
                sources.frames(sources.Source(str(video), "video", video))
            ),
        }
        for name, one in work.items():
            one()  # compiles
            seconds = []
            for _ in range(rounds):
                start = time.process_time()
                one()
                seconds.append(time.process_time() - start)
            yield name, 1000 * statistics.median(seconds) / len(images)
        yield "faces found", len(every) / len(images)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row per number of photos."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[1_000, 20_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--rounds", type=int, default=5, help="of each stage")
    options = parser.parse_args(arguments)
    if options.stages:
        os.environ["JAX_PLATFORMS"] = "cpu"
        one_thread()
        print("| stage | photo | CPU ms per photo |\n|---|---|---|")
        for width, height in _SIZES:
            for name, value in stages((width, height), options.rounds):
                print(f"| {name} | {width} x {height} | {value:.2f} |", flush=True)
        return
    print("| photos | seconds | peak memory of the largest process |\n|---|---|---|")
    for count in options.photos:
        with tempfile.TemporaryDirectory() as place:
            write_photos(Path(place) / "photos", count)
            seconds, peak = measure(Path(place) / "photos", Path(place) / "out", options.workers)
        print(f"| {count:,} | {seconds:,.0f} | {peak:,.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
