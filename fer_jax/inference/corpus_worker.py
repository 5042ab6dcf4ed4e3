"""What a worker does with photos and segments of videos: rows of a table. Writes no files."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fer_jax import buckets, plugins
from fer_jax.errors import UserError
from fer_jax.faces.decode import MAX_BYTES, UnreadableError, decode, read_image
from fer_jax.faces.finder import FaceFinder, LocatedFace
from fer_jax.inference import segments
from fer_jax.inference.model import Model
from fer_jax.inference.segments import Part, Segment
from fer_jax.inference.sources import Frame
from fer_jax.inference.stream import PredictOptions
from fer_jax.printable import printable
from fer_jax.run_dir import Run
from fer_jax.runtime import compile_cache

PIECE = 32
"""Photos or frames that are predicted at a time."""

Row = list[Any]
Item = str | Segment
"""A photo's path, or a segment of a video."""

Result = list[Row] | Part
"""What was read of an item."""


class Worker:
    """Predicts a few photos, or a segment of a video: the rows of each photo, or one part.

    If the run's place is a URL, a worker on another machine has no copy yet.
    """

    def __init__(
        self, run: Run, place: str, options: PredictOptions, own_parts: Sequence[str]
    ) -> None:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # of Orbax, in a process of its own
        plugins.load(own_parts)
        if buckets.is_url(place):
            run = dataclasses.replace(run, folder=buckets.read_only(place))
        compile_cache.enable()
        self._model, self._options = Model(run), options
        self._finder = FaceFinder(self._model.framing, options.min_share, options.detector)

    def __call__(self, piece: Sequence[Item]) -> list[Result]:
        """Returns the result of each photo, or of the one segment."""
        if isinstance(piece[0], Segment):
            return [self._segment(piece[0])]
        return list(self._classify([self._photo(str(name)) for name in piece]))

    def _segment(self, segment: Segment) -> Part:
        part = Part(segment)
        with contextlib.suppress(UserError):  # `segments.read` reports it
            part.size = _size(str(segment.path))
        frames = segments.read(part)
        while some := [self._frame(frame, part) for frame in itertools.islice(frames, PIECE)]:
            part.rows += itertools.chain.from_iterable(self._classify(some))
        return part

    def _photo(self, name: str) -> tuple[Row, list[LocatedFace]]:
        size, located, error = None, list[LocatedFace](), ""
        try:
            image, size = _read(name)
            located = self._finder.find(image, self._options.faces, self._options.whole_image)
        except (UnreadableError, cv2.error, MemoryError) as reason:
            error = _first_line(reason)
        return [printable(name), size or _size(name), printable(error), None, None], located

    def _frame(self, frame: Frame, part: Part) -> tuple[Row, list[LocatedFace]]:
        located, error = list[LocatedFace](), ""
        try:
            located = self._finder.find(frame.image, self._options.faces, whole_image=False)
        except (cv2.error, MemoryError) as reason:
            error = _first_line(reason)
        video = [printable(part.segment.name), part.size, printable(error)]
        return [*video, frame.index, frame.seconds], located

    def _classify(self, found: Sequence[tuple[Row, list[LocatedFace]]]) -> Iterator[list[Row]]:
        """Yields the rows of each image, at least one."""
        every = [face for _, located in found for face in located]
        faces = iter(self._model.classify(every, threshold=self._options.abstain))
        for image, located in found:
            rows = [
                [
                    *image,
                    number,
                    *face.box,
                    face.found,
                    face.label,
                    *face.probabilities.values(),
                    *face.further.values(),
                ]
                for number, face in enumerate(itertools.islice(faces, len(located)))
            ]
            yield rows or [[*image, *no_face(self._model.run.heads.outputs)]]


def _read(name: str) -> tuple[np.ndarray, int | None]:
    """Reads a photo, uint8[H, W, 3] RGB, and its size in bytes.

    Raises:
      UnreadableError: it cannot be read.
    """
    if not buckets.is_url(name):
        return read_image(Path(name)), _size(name)
    try:
        content = buckets.read_bytes(name, MAX_BYTES)
    except UserError as error:
        raise UnreadableError(str(error)) from error
    if content is None:
        raise UnreadableError(f"larger than {MAX_BYTES // 1_000_000} MB")
    return decode(content), len(content)


def _size(name: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.path.getsize(name)
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or "not enough memory"


def no_face(outputs: int) -> Row:
    """The columns of an image without a face, from `face` on, for a network's `outputs`."""
    return [None] * 5 + ["", ""] + [None] * outputs
