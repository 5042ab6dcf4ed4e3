"""Stand-in for ExpW: its list, and photos with up to three faces.

Some boxes extend beyond the border, and some file names have blanks.
`tfds_builders/expw/names.py` describes the set.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from tfds_builders.expw import names
from tfds_builders.stand_ins import faces

SEED = 2018
_PEOPLE = 8
_RENDERED = 128  # pixels
_CHUNK = 100  # photos per job
_MIN_PER_CLASS = 6  # faces
_FACES = (1, 1, 1, 1, 2, 3)  # faces per photo, cyclic
_SIDE = 200  # height of a photo, and its width per face, pixels


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo to write.

    Attributes:
      name: file name.
      number: index of the photo.
      emotions: the emotion of each face, from left to right.
    """

    name: str
    number: int
    emotions: tuple[str, ...]


def photos(scale: float) -> list[Photo]:
    """Returns all photos, with mixed classes."""
    emotions = [
        label
        for label, count in zip(labels.EXPW, names.COUNTS, strict=True)
        for _ in range(max(_MIN_PER_CLASS, round(count * scale)))
    ]
    order = np.random.default_rng(SEED).permutation(len(emotions))
    mixed: list[Photo] = []
    start = 0
    while start < len(order):
        number = len(mixed)
        indices = order[start : start + _FACES[number % len(_FACES)]]
        word = "ecstatic child" if number % 20 == 3 else "angry_man"
        shown = tuple(emotions[index] for index in indices)
        mixed.append(Photo(f"{word}_{number:05d}.jpg", number, shown))
        start += len(indices)
    return mixed


def count_images(scale: float) -> int:
    """Number of faces in the photos that `write` makes."""
    return sum(len(photo.emotions) for photo in photos(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes origin/, then label.lst; resumes an interrupted run. Yields face counts."""
    parts = out / ".parts"
    if (out / names.LIST).exists():
        yield count_images(scale)
        return
    people = max(2, min(_PEOPLE, round(_PEOPLE * scale * 20)))
    all_photos = photos(scale)
    jobs = [
        (out / "origin", parts / f"{start:07d}.lst", all_photos[start : start + _CHUNK], people)
        for start in range(0, len(all_photos), _CHUNK)
    ]
    yield from faces.run_jobs(write_photos, jobs)
    data = b"".join(part.read_bytes() for part in sorted(parts.iterdir()))
    faces.write_file(out / names.LIST, data)
    shutil.rmtree(parts)


def write_photos(folder: Path, part: Path, chunk: Sequence[Photo], people: int) -> int:
    """Writes the photos of a chunk and its lines of the list to `part`; returns the face count."""
    if not part.exists():
        lines = []
        for photo in chunk:
            photo_faces = render_faces(photo, people)
            image = np.concatenate([face.image for face in photo_faces], axis=1)
            faces.write_file(folder / photo.name, faces.jpeg(image))
            lines += _lines(photo, photo_faces)
        faces.write_file(part, ("\n".join(lines) + "\n").encode("ascii"))
    return sum(len(photo.emotions) for photo in chunk)


def render_faces(photo: Photo, people: int) -> list[faces.PooledFace]:
    """Renders the faces of a photo, one square image each."""
    pool = faces.FacePool(SEED, people, labels.EXPW, _RENDERED, wild=0.8)
    squares = []
    for place, emotion in enumerate(photo.emotions):
        face = faces.vary(pool.face(photo.number + place, emotion), f"{photo.name} {place}")
        rng = np.random.default_rng([SEED, photo.number, place])
        # The border truncates the lowest faces, but not their boxes.
        center = (_SIDE / 2, _SIDE * rng.uniform(0.45, 0.75))
        squares.append(faces.place(face, (_SIDE, _SIDE), center, _SIDE * rng.uniform(0.5, 0.8)))
    return squares


def _lines(photo: Photo, photo_faces: Sequence[faces.PooledFace]) -> list[str]:
    lines = []
    for place, face in enumerate(photo_faces):
        x, y, width, height = (round(value) for value in face.face_box)
        left, top = x + place * _SIDE, y
        numbers = (place, top, left, left + width, top + height, f"{40 + 3.5 * place:.4f}")
        code = labels.EXPW.index(photo.emotions[place])
        lines.append(" ".join(map(str, (photo.name, *numbers, code))))
    return lines
