"""Speed of preparing a data set: CPU time of each stage, images per second.

    python -m benchmarks.build_speed kdef --manual_dir data/stand_in/kdef

One thread runs the images through each stage. A full preparation on all cores then gives the rest
(mostly writing) and the wall time. CPU time is used because it depends little on other work on the
machine.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from fer_jax import errors
from fer_jax.faces.decode import decode
from tfds_builders import crops, duplicates
from tfds_builders import prepare as build
from tfds_builders.encode import encode_jpeg

REST = "serialize, write, once per set"


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Adds the CPU time of the block to a stage."""
    start = time.process_time()
    yield
    seconds[stage] += time.process_time() - start


def time_stages(builder: Any, limit: int) -> tuple[dict[str, float], int]:
    """Returns the CPU seconds of each stage in one thread, and the number of images."""
    opened, settings = builder.opened, builder.builder_config.crop
    detector = settings.make_detector()
    seconds: dict[str, float] = collections.defaultdict(float)
    count = 0
    for record in itertools.islice(opened.records, limit):
        request = crops.Request(
            record.id, record.file, record.view_box, record.face_box, record.landmarks
        )
        with timed(seconds, "read and decode"):
            if record.pixels is None:
                image = decode(opened.source.read(record.file))
            else:
                image = record.pixels()
        face = None
        has_landmarks = settings.method == "align" and record.landmarks is not None
        if settings.method != "keep" and not has_landmarks:
            with timed(seconds, "detect the face"):
                face = crops.locate(image, request, settings, detector)
        with timed(seconds, "crop and encode"):
            _, small, _ = crops.crop_face(image, request, settings, _KnownFace(face))
            encode_jpeg(small, settings.quality)
        with timed(seconds, "perceptual hash"):
            duplicates.look(small)
        count += 1
    return seconds, count


class _KnownFace:
    """A detector with a precomputed result, so that cropping is timed alone."""

    def __init__(self, face: Any) -> None:
        self._faces = [face] if face else []

    def detect(self, image: Any) -> list[Any]:
        del image
        return self._faces


def time_preparation(name: str, variant: str | None, manual_dir: str) -> tuple[float, float, int]:
    """Returns wall seconds, CPU seconds and images of a preparation on all cores."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        wall, cpu = time.perf_counter(), time.process_time()
        prepared = build.prepare(name, variant, folder, manual_dir)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return wall, cpu, len(prepared.entries)


def main() -> None:
    """Prints one line per stage and one for the full preparation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="the data set")
    parser.add_argument("--manual_dir", required=True, help="the original files, or a stand-in")
    parser.add_argument("--config", help="the variant")
    parser.add_argument("--images", type=int, default=400, help="images to time per stage")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with errors.exit_cleanly():
        builder = build.get(options.name, options.config, manual_dir=options.manual_dir)
        builder.open(Path(options.manual_dir))
        seconds, count = time_stages(builder, options.images)
        wall, cpu, prepared = time_preparation(options.name, options.config, options.manual_dir)
    per_image = {stage: stage_seconds / count for stage, stage_seconds in seconds.items()}
    per_image[REST] = max(0.0, cpu / prepared - sum(per_image.values()))
    total = sum(per_image.values())
    for stage, value in per_image.items():
        print(f"{stage:44} {1000 * value:7.2f} CPU ms/image {value / total:6.0%}")
    print(f"one core: {1 / total:.1f} images/s (CPU time)")
    print(
        f"full preparation: {prepared:,} images in {wall:.1f} s on "
        f"{len(os.sched_getaffinity(0))} cores, {prepared / wall:.1f} images/s (wall)"
    )


if __name__ == "__main__":
    main()
