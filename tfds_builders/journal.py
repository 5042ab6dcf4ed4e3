"""Face crops that an interrupted preparation has made, so that the next one continues behind them.

A file of JSON lines beside the prepared data: what the outcomes depend on, then one for each image.
A kill truncates the last line at most, and that image is done again.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from fer_jax.faces.detect import Face
from fer_jax.monitor import console
from tfds_builders.crops import Crop, Drop, Outcome, Request

_CROP = 7  # values of a crop; a drop has 4


class Journal:
    """Outcomes in the order of the images: those of an interrupted preparation first.

    Args:
      path: of the file; created if missing.
      made_of: what the outcomes depend on; a file of something else is replaced.

    Raises:
      OSError: the file cannot be written.
    """

    def __init__(self, path: Path, made_of: Mapping[str, Any]) -> None:
        self._file: IO[bytes] = open(path, "a+b")  # noqa: SIM115 - `__exit__` closes it
        self._file.seek(0)
        self._is_reading = self._read() == json.loads(json.dumps(made_of))
        if not self._is_reading:
            self._file.truncate(0)
            self._write(made_of)

    def outcomes(
        self,
        requests: Iterable[Request],
        crop: Callable[[Iterable[Request]], Generator[Outcome, None, None]],
    ) -> Generator[Outcome, None, None]:
        """Yields one outcome per request, in order; called once for each split, in order.

        Args:
          requests: what to crop.
          crop: crops those that are not done yet.
        """
        waiting, done = iter(requests), 0
        for request in waiting:
            outcome = self._take(request.id)
            if outcome is None:
                waiting = itertools.chain([request], waiting)
                break
            done += 1
            yield outcome
        if done:
            console.print_stderr(f"{done:,} images were done before")
        with contextlib.closing(crop(waiting)) as outcomes:
            for outcome in outcomes:
                self._write(_to_json(outcome))
                yield outcome

    def _take(self, record_id: str) -> Outcome | None:
        """The outcome of the next image, which has this id; None if it is not done."""
        if not self._is_reading:
            return None
        place, values = self._file.tell(), self._read()
        if values is not None and values[0] == record_id:
            return _from_json(values)
        self._file.truncate(place)  # behind the last whole line
        self._is_reading = False
        return None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _read(self) -> Any:
        """The next line; None behind the last whole one."""
        line = self._file.readline()
        checksum, _, text = line.partition(b" ")
        is_whole = line.endswith(b"\n") and checksum == _checksum(text)
        return json.loads(text) if is_whole else None

    def _write(self, value: Any) -> None:
        text = json.dumps(value).encode() + b"\n"
        self._file.write(_checksum(text) + b" " + text)
        self._file.flush()  # to the system, which outlives this process


def _checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)


def _to_json(outcome: Outcome) -> list[Any]:
    if isinstance(outcome, Drop):
        return [outcome.id, outcome.file, outcome.reason, outcome.detail]
    face, landmarks = outcome.face, np.asarray(outcome.landmarks, np.float32)
    images = (outcome.encoded, outcome.look, landmarks.tobytes())
    return [
        outcome.id, *(base64.b64encode(image).decode() for image in images), outcome.digest,
        outcome.stand_in, [face.box, face.source, face.landmarks],
    ]  # fmt: skip


def _from_json(values: list[Any]) -> Outcome:
    if len(values) != _CROP:
        return Drop(*values)
    record_id, *images, digest, stand_in, (box, source, points) = values
    encoded, look, landmarks = map(base64.b64decode, images)
    return Crop(
        record_id, encoded, Face(tuple(box), source, points and tuple(map(tuple, points))),
        np.frombuffer(landmarks, np.float32).reshape(-1, 2), look, digest, stand_in,
    )  # fmt: skip
