"""A stand-in for AffectNet: its lists with boxes and landmarks, and photographs in folders.

All eleven codes at the real counts, pictures of odd sizes and kinds, boxes that are NULL, a
row whose picture is missing. Every picture carries the mark of a stand-in. What the set looks
like is in names.py.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders import pictures, protocols
from tfds_builders.affectnet import names
from tfds_builders.stand_ins import faces as stand_in_faces

SEED = 2017
_PEOPLE = 8
_RENDERED = 128  # pixels
_CHUNK = 200  # pictures of a job
_FOLDERS = 1_000
_LEAST = 3  # of each code
_SIZES = (150, 400)  # of a picture's sides, pixels
_BMP, _CAPITALS = 9, 11  # one picture of so many is a bmp, or has an ending in capitals


@dataclasses.dataclass(frozen=True)
class Row:
    """A row to write: split, code from 0 to 10, its number in both, its picture's name."""

    split: str
    code: int
    number: int
    path: str


def rows(scale: float) -> list[Row]:
    """All rows; the codes are mixed, as in the lists."""
    found = []
    for split, counts in names.COUNTS.items():
        every = [
            _row(split, code, number)
            for code, count in enumerate(counts)
            for number in range(max(_LEAST, round(count * scale)))
        ]
        found += sorted(every, key=lambda row: row.path)
    return found


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    return sum(
        max(_LEAST, round(count * scale)) for some in names.COUNTS.values() for count in some
    )


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes pictures, then lists below `out`, keeping what is there; yields done pictures."""
    lists, parts = out / "Manually_Annotated_file_lists", out / ".parts"
    if all((lists / table).exists() for table in names.TABLES.values()):
        yield count_images(scale)
        return
    folder = out / "Manually_Annotated_Images"
    people = max(2, min(_PEOPLE, round(_PEOPLE * scale * 20)))
    every = rows(scale)
    jobs = [
        (folder, parts / f"{start:07d}.csv", every[start : start + _CHUNK], people)
        for start in range(0, len(every), _CHUNK)
    ]
    yield from stand_in_faces.run_jobs(write_pictures, jobs)
    lines = [line for part in sorted(parts.iterdir()) for line in part.read_text().splitlines()]
    for split, table in names.TABLES.items():
        # The validation list comes without its first line.
        head = [",".join(names.COLUMNS)] if split == protocols.TRAIN else []
        mine = [line for row, line in zip(every, lines, strict=True) if row.split == split]
        stand_in_faces.write_file(lists / table, ("\n".join(head + mine) + "\n").encode("ascii"))
    shutil.rmtree(parts)


def write_pictures(folder: Path, part: Path, some: Sequence[Row], people: int) -> int:
    """The pictures of some rows and their lines of the list; the number of them."""
    if not part.exists():
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        for row in some:
            face = photograph(row, people)
            path = folder / row.path
            encode = _bmp if path.suffix == ".bmp" else stand_in_faces.jpeg
            stand_in_faces.write_file(path, encode(face.image))
            table.writerow(_values(row, face))
        stand_in_faces.write_file(part, text.getvalue().encode("ascii"))
    return len(some)


def _row(split: str, code: int, number: int) -> Row:
    name = hashlib.sha256(f"{SEED} {split} {code} {number}".encode()).hexdigest()
    ending = "bmp" if number % _BMP == _BMP - 1 else "JPG" if number % _CAPITALS == 5 else "jpg"
    return Row(split, code, number, f"{int(name[:8], 16) % _FOLDERS}/{name[:56]}.{ending}")


def photograph(row: Row, people: int) -> stand_in_faces.PooledFace:
    """The face somewhere in a picture of some size; those without expression show neutral."""
    pool = stand_in_faces.FacePool(SEED, people, labels.AFFECTNET, _RENDERED, wild=0.8)
    shown = labels.AFFECTNET[row.code] if row.code < len(labels.AFFECTNET) else labels.NEUTRAL
    face = stand_in_faces.vary(pool.face(row.number, shown), row.path)
    rng = np.random.default_rng(list(row.path.encode()))
    width, height = (int(side) for side in rng.integers(*_SIZES, 2))
    tall = min(width, height) * rng.uniform(0.5, 0.75)
    center = (width / 2 + rng.uniform(-10, 10), height / 2 + rng.uniform(-10, 10))
    return stand_in_faces.place(face, (width, height), center, tall)


def _bmp(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".bmp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise RuntimeError("OpenCV could not encode a bmp")
    return pictures.mark_stand_in(data.tobytes())


def _values(row: Row, face: stand_in_faces.PooledFace) -> list[object]:
    unused = row.code >= len(labels.AFFECTNET)
    if row.code == len(labels.AFFECTNET) + 2:  # no face: no box either
        return [row.path, *["NULL"] * 4, "", row.code, -2, -2]
    box = [round(value) for value in face.face_box]
    points = ";".join(f"{value:.2f}" for value in _sixty_eight(face.landmarks).ravel())
    feelings = (-2, -2) if unused else (round(0.1 * (row.code % 5), 2), -0.25)
    return [row.path, *box, points, row.code, *feelings]


def _sixty_eight(five: np.ndarray) -> np.ndarray:
    """68 points of which the five that are known lie where iBUG's numbering has them."""
    points = np.tile(five.mean(axis=0), (68, 1))
    for eye, group in zip(five[:2], (slice(36, 42), slice(42, 48)), strict=True):
        angles = np.arange(6) * np.pi / 3
        points[group] = eye + 3.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points[30], points[48], points[54] = five[2], five[3], five[4]
    return points
