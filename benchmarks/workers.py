"""Two workers beside one, and beside the threads of one process, on the same cores.

    fer-jax stand-in kdef kdef
    python -m benchmarks.workers kdef

In alternating rounds: `prepare` finds and cuts faces (Haar) in the folder's photos, measured from
the moment when all workers have started; `predict` (MTCNN, the shipped model) is timed as a whole
command, its start included, on scenes of two rendered people: photos, and one video.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from benchmarks import clusters, prediction
from fer_jax.executor import IN_FLIGHT, Executor, cores
from tfds_builders import crops

ONE, TWO, THREADS = "1 worker", "2 workers", "threads"


def prepare_rates(folder: Path, count: int) -> dict[str, Callable[[], float]]:
    """Returns what measures photos per second of `prepare`, by kind of worker."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.JPG"))
    names = list(itertools.islice(itertools.cycle(found), count))
    skip = 2 * cores() * IN_FLIGHT * crops.PIECE
    executors = {ONE: Executor(1), TWO: Executor(2), THREADS: Executor(cores(), processes=False)}

    def measure(kind: str) -> float:
        return clusters.measure(folder, names, executors[kind], skip)[0]

    return {kind: functools.partial(measure, kind) for kind in executors}


def write_photos(folder: Path, count: int) -> None:
    """Writes scenes as photos."""
    for number, image in enumerate(itertools.islice(itertools.cycle(prediction.scenes()), count)):
        cv2.imwrite(str(folder / f"{number:05}.jpg"), image[..., ::-1])


def write_video(folder: Path, count: int) -> None:
    """Writes scenes as one video."""
    scenes = prediction.scenes()
    codec, size = cv2.VideoWriter.fourcc(*"mp4v"), scenes[0].shape[1::-1]
    writer = cv2.VideoWriter(str(folder / "video.mp4"), codec, 25, size)
    for image in itertools.islice(itertools.cycle(scenes), count):
        writer.write(image[..., ::-1])
    writer.release()


def predict_rates(
    place: Path, count: int, write: Callable[[Path, int], None]
) -> dict[str, Callable[[], float]]:
    """Writes photos or a video, and returns what measures images per second of `predict`."""
    photos = place / "photos"
    photos.mkdir(parents=True)
    write(photos, count)
    flags = {
        ONE: ["--shards", "csv", "--workers", "1"],
        TWO: ["--shards", "csv", "--workers", "2"],
        THREADS: ["--no_pictures", "--figures", "0"],
    }
    numbers = itertools.count()

    def measure(kind: str) -> float:
        command = [sys.executable, "-m", "fer_jax", "predict", str(photos), *flags[kind]]
        command += ["--out", str(place / f"out{next(numbers)}")]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return count / (time.perf_counter() - start)

    return {kind: functools.partial(measure, kind) for kind in flags}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row per command: images/s by kind of worker, and two workers over the others."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="with JPEGs, such as a stand-in for KDEF")
    parser.add_argument("--photos", type=int, default=800)
    parser.add_argument("--frames", type=int, default=4000, help="of the video")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    print("| command | 1 worker | 2 workers | threads | 2 over 1 | 2 over threads |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        commands = {
            "prepare": prepare_rates(options.folder, options.photos),
            "predict": predict_rates(Path(place), options.photos, write_photos),
            "predict, one video": predict_rates(Path(place, "v"), options.frames, write_video),
        }
        for command, rates in commands.items():
            rounds = [{kind: rate() for kind, rate in rates.items()} for _ in range(options.rounds)]
            cells = [f"{statistics.median(one[kind] for one in rounds):.1f}" for kind in rates]
            for other in (ONE, THREADS):
                ratios = [one[TWO] / one[other] for one in rounds]
                median, low, high = statistics.median(ratios), min(ratios), max(ratios)
                cells.append(f"{median:.2f} ({low:.2f} to {high:.2f})")
            print(f"| {command} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
