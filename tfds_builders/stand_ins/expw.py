"""A stand-in for ExpW: its list, and photographs with up to three faces.

Some boxes reach over the border and some names have blanks. Every photograph carries the mark
of a stand-in. What the set looks like is in names.py.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from tfds_builders.expw import names
from tfds_builders.stand_ins import faces as stand_in_faces

SEED = 2018
_PEOPLE = 8
_RENDERED = 128  # pixels
_CHUNK = 100  # photographs of a job
_LEAST = 6  # faces of each class
_FACES = (1, 1, 1, 1, 2, 3)  # faces of a photograph, over and over
_SIDE = 200  # pixels of a photograph for each face


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photograph to write: its name, and the emotion of each face from left to right."""

    name: str
    number: int
    emotions: tuple[str, ...]


def photos(scale: float) -> list[Photo]:
    """All photographs; the classes are mixed over them."""
    emotions = [
        label
        for label, count in zip(labels.EXPW, names.COUNTS, strict=True)
        for _ in range(max(_LEAST, round(count * scale)))
    ]
    order = np.random.default_rng(SEED).permutation(len(emotions))
    found: list[Photo] = []
    start = 0
    while start < len(order):
        number = len(found)
        some = order[start : start + _FACES[number % len(_FACES)]]
        word = "ecstatic child" if number % 20 == 3 else "angry_man"
        found.append(
            Photo(f"{word}_{number:05d}.jpg", number, tuple(emotions[one] for one in some))
        )
        start += len(some)
    return found


def count_images(scale: float) -> int:
    """How many faces the photographs have that `write` makes."""
    return sum(len(one.emotions) for one in photos(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes origin/, then label.lst below `out`, keeping what is there; yields done faces."""
    parts = out / ".parts"
    if (out / names.LIST).exists():
        yield count_images(scale)
        return
    people = max(2, min(_PEOPLE, round(_PEOPLE * scale * 20)))
    every = photos(scale)
    jobs = [
        (out / "origin", parts / f"{start:07d}.lst", every[start : start + _CHUNK], people)
        for start in range(0, len(every), _CHUNK)
    ]
    yield from stand_in_faces.run_jobs(write_photos, jobs)
    data = b"".join(part.read_bytes() for part in sorted(parts.iterdir()))
    stand_in_faces.write_file(out / names.LIST, data)
    shutil.rmtree(parts)


def write_photos(folder: Path, part: Path, some: Sequence[Photo], people: int) -> int:
    """Some photographs and their lines of the list; the number of their faces."""
    if not part.exists():
        lines = []
        for one in some:
            found = faces(one, people)
            image = np.concatenate([face.image for face in found], axis=1)
            stand_in_faces.write_file(folder / one.name, stand_in_faces.jpeg(image))
            lines += _lines(one, found)
        stand_in_faces.write_file(part, ("\n".join(lines) + "\n").encode("ascii"))
    return sum(len(one.emotions) for one in some)


def faces(one: Photo, people: int) -> list[stand_in_faces.PooledFace]:
    """The faces, each in its own square of the photograph."""
    pool = stand_in_faces.FacePool(SEED, people, labels.EXPW, _RENDERED, wild=0.8)
    found = []
    for place, emotion in enumerate(one.emotions):
        face = stand_in_faces.vary(pool.face(one.number + place, emotion), f"{one.name} {place}")
        rng = np.random.default_rng([SEED, one.number, place])
        # The lowest faces are cut by the border, and so are their boxes by the set's detector.
        center = (_SIDE / 2, _SIDE * rng.uniform(0.45, 0.75))
        found.append(
            stand_in_faces.place(face, (_SIDE, _SIDE), center, _SIDE * rng.uniform(0.5, 0.8))
        )
    return found


def _lines(one: Photo, found: Sequence[stand_in_faces.PooledFace]) -> list[str]:
    lines = []
    for place, face in enumerate(found):
        x, y, width, height = (round(value) for value in face.face_box)
        left, top = x + place * _SIDE, y
        numbers = (place, top, left, left + width, top + height, f"{40 + 3.5 * place:.4f}")
        code = labels.EXPW.index(one.emotions[place])
        lines.append(" ".join(map(str, (one.name, *numbers, code))))
    return lines
