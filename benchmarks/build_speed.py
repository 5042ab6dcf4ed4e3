"""How fast a set is prepared, and what the time goes into: images a second and core.

    python -m benchmarks.build_speed kdef --manual_dir data/stand_in/kdef

One thread takes the pictures through each stage, which gives the shares; a whole
preparation on all cores gives the rest, writing above all, and the speed that a user
sees. Processor seconds are counted, so that other work on the machine shifts little.
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
from tfds_builders import (
    crops,
    duplicates,
)
from fer_jax.faces.decode import decode
from tfds_builders.encode import encode_jpeg
from tfds_builders import (
    prepare as build,
)

REST = "serialise, write, and what is done once"


@contextlib.contextmanager
def clocked(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Adds the processor time of a block to a stage."""
    started = time.process_time()
    yield
    seconds[stage] += time.process_time() - started


def stages(builder: Any, most: int) -> tuple[dict[str, float], int]:
    """Processor seconds of each stage in one thread, and how many pictures that were."""
    opened, settings = builder.opened, builder.builder_config.crop
    detector = settings.make_detector()
    seconds: dict[str, float] = collections.defaultdict(float)
    done = 0
    for record in itertools.islice(opened.records, most):
        request = crops.Request(
            record.id, record.file, record.view_box, record.face_box, record.landmarks
        )
        with clocked(seconds, "read and decode"):
            if record.pixels is None:
                picture = decode(opened.source.read(record.file))
            else:
                picture = record.pixels()
        face = None
        knows = settings.method == "align" and record.landmarks is not None
        if settings.method != "keep" and not knows:
            with clocked(seconds, "find the face"):
                face = crops.locate(picture, request, settings, detector)
        with clocked(seconds, "cut and encode"):
            _, small, _ = crops.crop_face(picture, request, settings, _Knows(face))
            encode_jpeg(small, settings.quality)
        with clocked(seconds, "hash"):
            duplicates.look(small)
        done += 1
    return seconds, done


class _Knows:
    """A detector that was asked before, so that cutting is timed alone."""

    def __init__(self, face: Any) -> None:
        self._found = [face] if face else []

    def detect(self, image: Any) -> list[Any]:
        del image
        return self._found


def whole(name: str, variant: str | None, manual_dir: str) -> tuple[float, float, int]:
    """Wall and processor seconds of a preparation on all cores, and its pictures."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        wall, processor = time.perf_counter(), time.process_time()
        done = build.prepare(name, variant, folder, manual_dir)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        return wall, processor, len(done.entries)


def main() -> None:
    """Prints one line a stage and one for the whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="the data set")
    parser.add_argument("--manual_dir", required=True, help="a copy of the set, or a stand-in")
    parser.add_argument("--config", help="the variant")
    parser.add_argument("--pictures", type=int, default=400, help="taken through the stages")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with errors.exit_cleanly():
        builder = build.get(options.name, options.config, manual_dir=options.manual_dir)
        builder.open(Path(options.manual_dir))
        seconds, done = stages(builder, options.pictures)
        wall, processor, prepared = whole(options.name, options.config, options.manual_dir)
    each = {stage: total / done for stage, total in seconds.items()}
    each[REST] = max(0.0, processor / prepared - sum(each.values()))
    all_of_it = sum(each.values())
    for stage, one in each.items():
        print(f"{stage:44} {1000 * one:7.2f} ms an image {one / all_of_it:6.0%}")
    print(f"one core: {1 / all_of_it:.1f} images/s (processor time)")
    print(
        f"whole preparation: {prepared:,} images in {wall:.1f} s on "
        f"{len(os.sched_getaffinity(0))} cores, {prepared / wall:.1f} images/s (wall)"
    )


if __name__ == "__main__":
    main()
