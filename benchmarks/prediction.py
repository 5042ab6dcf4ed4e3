"""How fast faces are read in pictures and in a long video, and whether memory stays where it is.

    python -m benchmarks.prediction runs/demo [--minutes 10] [--explain]

A folder of pictures and a video with two rendered people at 640 x 360, both made here, are
given to `fer-jax predict` in a process of its own, whose memory is read while it runs.
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
PICTURES = 300


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run of the verb.

    Attributes:
      seconds: wall clock of the whole process.
      working: seconds from the first frame to the last.
      frames: that were read.
      faces: that were found in them.
      memory: resident MB after each tenth of the time.
    """

    seconds: float
    working: float
    frames: int
    faces: int
    memory: tuple[int, ...]


def scenes() -> list[np.ndarray]:
    """Pictures of two people side by side, as a camera sees them: uint8[H, W, 3] RGB."""
    spec = dataclasses.replace(presets.demo(5, 2, 240), yaws=(0.0,), views=0, fill=(0.5, 0.6))
    people = [[face.image for face in render_subject(spec, person)] for person in range(2)]
    pictures = []
    for left, right in zip(*people, strict=True):
        wall = np.full((HEIGHT, WIDTH, 3), (150, 155, 160), np.uint8)
        wall[60:300, 40:280], wall[60:300, 360:600] = left, right
        pictures.append(wall)
    return pictures


def moving(pictures: Sequence[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """`count` frames: each scene for a second, swaying, with a camera's noise."""
    noise = np.random.default_rng(0).normal(0, 3, (8, HEIGHT, WIDTH, 1)).astype(np.int16)
    for index in range(count):
        frame = pictures[index // RATE % len(pictures)]
        frame = np.roll(frame, round(20 * np.sin(index / RATE)), axis=1)
        yield (frame + noise[index % len(noise)]).clip(0, 255).astype(np.uint8)


def write_video(path: Path, frames: Iterator[np.ndarray]) -> None:
    """An mp4 of `frames`."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def write_pictures(folder: Path, frames: Iterator[np.ndarray]) -> None:
    """A JPEG for each of `frames`."""
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:05}.jpg"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


def measure(run: Path, inputs: Path, out: Path, flags: Sequence[str]) -> Measured:
    """Runs the verb and watches its memory and its table grow."""
    command = [sys.executable, "-m", "fer_jax.predict", run, inputs, "--out", out, *flags]
    began = time.monotonic()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    memory: list[int] = []
    first: list[float] = []
    table = out / ".predictions.csv.part"

    def watch() -> None:
        while process.poll() is None:
            memory.append(_resident(process.pid))
            if not first and table.exists() and table.stat().st_size:
                first.append(time.monotonic())
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit(f"predict ended with code {process.returncode}")
    seconds = time.monotonic() - began
    watcher.join()
    content = json.loads((out / "predictions.json").read_text())
    return Measured(
        seconds=seconds,
        working=time.monotonic() - first[0],
        frames=sum(source["frames"] for source in content["sources"]),
        faces=sum(source["faces"] for source in content["sources"]),
        memory=tuple(memory[(len(memory) - 2) * tenth // 10] for tenth in range(1, 11)),
    )


def _resident(process: int) -> int:
    """MB that a process has in memory; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def report(name: str, found: Measured) -> None:
    """Two lines."""
    print(
        f"{name}: {found.frames:,} frames, {found.faces:,} faces in {found.seconds:.0f} s; "
        f"{found.frames / found.working:.1f} frames/s once it runs"
    )
    print(f"  MB after each tenth of the time: {' '.join(map(str, found.memory))}", flush=True)


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="run directory, such as runs/demo")
    parser.add_argument("--minutes", type=float, default=10.0, help="of video")
    parser.add_argument("--explain", action="store_true", help="with Grad-CAM")
    options = parser.parse_args()
    flags = ["--explain"] if options.explain else []
    with tempfile.TemporaryDirectory() as name:
        folder, pictures = Path(name), scenes()
        write_pictures(folder / "pictures", moving(pictures, PICTURES))
        write_video(folder / "clip.mp4", moving(pictures, round(options.minutes * 60 * RATE)))
        for inputs in ("pictures", "clip.mp4"):
            for kind, more in (("tables only", ["--no_pictures"]), ("annotated", ["--figures=0"])):
                out = folder / f"{inputs} {kind}"
                report(
                    f"{inputs}, {kind}", measure(options.run, folder / inputs, out, flags + more)
                )


if __name__ == "__main__":
    main()
