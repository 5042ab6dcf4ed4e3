"""Prediction speed on images and a long video, and memory over time.

    python -m benchmarks.prediction runs/demo [--minutes 10] [--explain]

Renders a folder of images and a video of two people at 640 x 360, runs `fer-jax predict` on them in
a subprocess and samples its memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from tfds_builders.synthface import presets, render_subject

HEIGHT, WIDTH, RATE = 360, 640, 25
IMAGES = 300


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One run of `fer-jax predict`.

    Attributes:
      seconds: wall time of the whole process.
      working_seconds: wall time from the first frame to the last.
      frames: number of frames read.
      faces: number of faces detected.
      memory: resident MB after each tenth of the time.
    """

    seconds: float
    working_seconds: float
    frames: int
    faces: int
    memory: tuple[int, ...]


def scenes() -> list[np.ndarray]:
    """Returns camera images of two people side by side: uint8[H, W, 3] RGB."""
    spec = dataclasses.replace(presets.demo(5, 2, 240), yaws=(0.0,), views=0, fill=(0.5, 0.6))
    people = [[face.image for face in render_subject(spec, person)] for person in range(2)]
    images = []
    for left, right in zip(*people, strict=True):
        scene = np.full((HEIGHT, WIDTH, 3), (150, 155, 160), np.uint8)
        scene[60:300, 40:280], scene[60:300, 360:600] = left, right
        images.append(scene)
    return images


def make_frames(images: Sequence[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Yields `count` frames: each image for a second, swaying, with camera noise."""
    noise = np.random.default_rng(0).normal(0, 3, (8, HEIGHT, WIDTH, 1)).astype(np.int16)
    for index in range(count):
        frame = images[index // RATE % len(images)]
        frame = np.roll(frame, round(20 * np.sin(index / RATE)), axis=1)
        yield (frame + noise[index % len(noise)]).clip(0, 255).astype(np.uint8)


def write_video(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Writes an mp4 video."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def write_images(folder: Path, frames: Iterator[np.ndarray]) -> None:
    """Writes each frame as a JPEG file."""
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:05}.jpg"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


def measure(run: Path, inputs: Path, out: Path, flags: Sequence[str]) -> Measurement:
    """Runs `fer-jax predict`, sampling its memory and waiting for its first row of output."""
    command = [sys.executable, "-m", "fer_jax", "predict", run, inputs, "--out", out, *flags]
    start = time.monotonic()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    memory: list[int] = []
    first_output: list[float] = []
    table = out / ".predictions.csv.part"

    def watch() -> None:
        while process.poll() is None:
            memory.append(_resident(process.pid))
            if not first_output and table.exists() and table.stat().st_size:
                first_output.append(time.monotonic())
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit(f"fer-jax predict exited with code {process.returncode}")
    seconds = time.monotonic() - start
    watcher.join()
    content = json.loads((out / "predictions.json").read_text())
    return Measurement(
        seconds=seconds,
        working_seconds=time.monotonic() - first_output[0],
        frames=sum(source["frames"] for source in content["sources"]),
        faces=sum(source["faces"] for source in content["sources"]),
        memory=tuple(memory[(len(memory) - 2) * tenth // 10] for tenth in range(1, 11)),
    )


def _resident(process: int) -> int:
    """Returns the resident MB of a process; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def report(name: str, result: Measurement) -> None:
    """Prints a measurement in two lines."""
    print(
        f"{name}: {result.frames:,} frames, {result.faces:,} faces in {result.seconds:.0f} s; "
        f"{result.frames / result.working_seconds:.1f} frames/s after the start"
    )
    print(
        f"  resident MB after each tenth of the time: {' '.join(map(str, result.memory))}",
        flush=True,
    )


def main() -> None:
    """Measures images and video, without and with annotated output."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="run directory, such as runs/demo")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the video")
    parser.add_argument("--explain", action="store_true", help="with Grad-CAM")
    options = parser.parse_args()
    flags = ["--explain"] if options.explain else []
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), scenes()
        write_images(folder / "images", make_frames(images, IMAGES))
        write_video(folder / "clip.mp4", make_frames(images, round(options.minutes * 60 * RATE)))
        for inputs in ("images", "clip.mp4"):
            for kind, extra in (("tables only", ["--no_pictures"]), ("annotated", ["--figures=0"])):
                out = folder / f"{inputs} {kind}"
                report(
                    f"{inputs}, {kind}", measure(options.run, folder / inputs, out, flags + extra)
                )


if __name__ == "__main__":
    main()
