"""Rendered faces on disk: a zip of JPEGs and an index, written atomically.

The zip stores a checksum of every member, so a damaged archive is an error.
The same faces give the same bytes.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import cv2

from fer_jax import errors
from tfds_builders.synthface.subject import Face

INDEX = "index.jsonl"
_NOT_STORED = ("image", "landmarks")  # the shipped archives predate the landmarks
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that the bytes are reproducible


@dataclasses.dataclass(frozen=True)
class Record:
    """A stored face: the JPEG file, and every field of `Face` except image and landmarks."""

    jpeg: bytes
    truth: dict[str, Any]


def encode(face: Face, quality: int) -> Record:
    """Compresses a face to JPEG and rounds its float labels to three digits."""
    bgr = cv2.cvtColor(face.image, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, _jpeg_options(quality))
    truth = {
        field.name: getattr(face, field.name)
        for field in dataclasses.fields(face)
        if field.name not in _NOT_STORED
    }
    truth["face_box"] = list(face.face_box)  # JSON has no tuples
    truth["action_units"] = {k: round(v, 3) for k, v in face.action_units.items() if v >= 5e-4}
    truth |= {name: round(truth[name], 3) for name in ("yaw", "sex", "age", "skin")}
    return Record(jpeg.tobytes(), truth)


def _jpeg_options(quality: int) -> list[int]:
    # Optimized Huffman tables shrink a 64-pixel image by a fifth.
    return [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]


def _pack(records: Iterable[Record]) -> bytes:
    lines, stream = [], io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as packed:
        for record in records:
            packed.writestr(zipfile.ZipInfo(record.truth["id"] + ".jpg", _EPOCH), record.jpeg)
            lines.append(json.dumps(record.truth, separators=(",", ":")))
        index = zipfile.ZipInfo(INDEX, _EPOCH)
        packed.writestr(index, "\n".join(lines), zipfile.ZIP_DEFLATED, 9)
    return stream.getvalue()


def write(path: pathlib.Path, records: Iterable[Record]) -> None:
    """Writes an archive atomically: a killed process leaves the complete file or none."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(_pack(records))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read(path: pathlib.Path) -> Iterator[Record]:
    """Yields the records of an archive in order.

    Raises:
      UserError: the file is missing, truncated or damaged.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            for line in packed.read(INDEX).decode().splitlines():
                truth = json.loads(line)
                yield Record(packed.read(truth["id"] + ".jpg"), truth)
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise errors.UserError(
            f"expected an archive of rendered faces at {path}, found it missing or damaged "
            f"({error}); delete it and render again, or reinstall fer_jax if it ships with fer_jax"
        ) from None
