"""Stand-in for AffectNet: the two lists with boxes and landmarks, and folders of photos.

Has all eleven codes, various image sizes and formats, and NULL boxes.
`tfds_builders/affectnet/names.py` describes the set.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from tfds_builders import protocols
from tfds_builders.affectnet import names
from tfds_builders.stand_ins import faces

SEED = 2017
_PEOPLE = 8
_RENDERED = 128  # pixels
_CHUNK = 200  # images per job
_FOLDERS = 1_000
_MIN_PER_CODE = 3  # in each split
_SIZES = (150, 400)  # range of width and height, pixels
_BMP, _CAPITALS = 9, 11  # every n-th image is a BMP, or has a .JPG suffix


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a list.

    Attributes:
      split: TRAIN or VALIDATION.
      code: expression code, 0 to 10.
      number: index within split and code.
      path: image file below the image folder.
    """

    split: str
    code: int
    number: int
    path: str


def rows(scale: float) -> list[Row]:
    """Returns all rows, with mixed codes, as in the real lists."""
    ordered = []
    for split, counts in names.COUNTS.items():
        split_rows = [
            _row(split, code, number)
            for code, count in enumerate(counts)
            for number in range(max(_MIN_PER_CODE, round(count * scale)))
        ]
        ordered += sorted(split_rows, key=lambda row: row.path)
    return ordered


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return sum(
        max(_MIN_PER_CODE, round(count * scale))
        for counts in names.COUNTS.values()
        for count in counts
    )


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes the images, then the lists; resumes an interrupted run. Yields image counts."""
    lists, parts = out / "Manually_Annotated_file_lists", out / ".parts"
    if all((lists / table).exists() for table in names.TABLES.values()):
        yield count_images(scale)
        return
    folder = out / "Manually_Annotated_Images"
    people = max(2, min(_PEOPLE, round(_PEOPLE * scale * 20)))
    all_rows = rows(scale)
    jobs = [
        (folder, parts / f"{start:07d}.csv", all_rows[start : start + _CHUNK], people)
        for start in range(0, len(all_rows), _CHUNK)
    ]
    yield from faces.run_jobs(write_images, jobs)
    lines = [line for part in sorted(parts.iterdir()) for line in part.read_text().splitlines()]
    for split, table in names.TABLES.items():
        # As distributed, the validation list has no header.
        head = [",".join(names.COLUMNS)] if split == protocols.TRAIN else []
        body = [line for row, line in zip(all_rows, lines, strict=True) if row.split == split]
        faces.write_file(lists / table, ("\n".join(head + body) + "\n").encode("ascii"))
    shutil.rmtree(parts)


def write_images(folder: Path, part: Path, chunk: Sequence[Row], people: int) -> int:
    """Writes the images of a chunk and its lines of the list to `part`; returns the row count."""
    if not part.exists():
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        for row in chunk:
            face = render_photo(row, people)
            path = folder / row.path
            encode = faces.bmp if path.suffix == ".bmp" else faces.jpeg
            faces.write_file(path, encode(face.image))
            table.writerow(_values(row, face))
        faces.write_file(part, text.getvalue().encode("ascii"))
    return len(chunk)


def _row(split: str, code: int, number: int) -> Row:
    name = hashlib.sha256(f"{SEED} {split} {code} {number}".encode()).hexdigest()
    suffix = "bmp" if number % _BMP == _BMP - 1 else "JPG" if number % _CAPITALS == 5 else "jpg"
    return Row(split, code, number, f"{int(name[:8], 16) % _FOLDERS}/{name[:56]}.{suffix}")


def render_photo(row: Row, people: int) -> faces.PooledFace:
    """Places the row's face in a photo of random size; codes without an emotion show neutral."""
    pool = faces.FacePool(SEED, people, labels.AFFECTNET, _RENDERED, wild=0.8)
    shown = labels.AFFECTNET[row.code] if row.code < len(labels.AFFECTNET) else labels.NEUTRAL
    face = faces.vary(pool.face(row.number, shown), row.path)
    rng = np.random.default_rng(list(row.path.encode()))
    width, height = (int(side) for side in rng.integers(*_SIZES, 2))
    tall = min(width, height) * rng.uniform(0.5, 0.75)
    center = (width / 2 + rng.uniform(-10, 10), height / 2 + rng.uniform(-10, 10))
    return faces.place(face, (width, height), center, tall)


def _values(row: Row, face: faces.PooledFace) -> list[object]:
    unused = row.code >= len(labels.AFFECTNET)
    if row.code == len(labels.AFFECTNET) + 2:  # "no face" has no box
        return [row.path, *["NULL"] * 4, "", row.code, -2, -2]
    box = [round(value) for value in face.face_box]
    points = ";".join(f"{value:.2f}" for value in _sixty_eight(face.landmarks).ravel())
    valence_arousal = (-2, -2) if unused else (round(0.1 * (row.code % 5), 2), -0.25)
    return [row.path, *box, points, row.code, *valence_arousal]


def _sixty_eight(five: np.ndarray) -> np.ndarray:
    """68 points in iBUG's numbering: the five known ones, the rest at their mean."""
    points = np.tile(five.mean(axis=0), (68, 1))
    for eye, group in zip(five[:2], (slice(36, 42), slice(42, 48)), strict=True):
        angles = np.arange(6) * np.pi / 3
        points[group] = eye + 3.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points[30], points[48], points[54] = five[2], five[3], five[4]
    return points
