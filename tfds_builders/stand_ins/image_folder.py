"""A stand-in for a folder of one's own: splits, class folders, subjects, and what lies about.

Every picture carries the mark of a stand-in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from fer_jax import labels
from tfds_builders.image_folder import tree
from tfds_builders.stand_ins import faces as stand_in_faces

SEED = 4711
CLASSES: dict[str, str] = {
    "Angry": labels.ANGER,
    "Happy": labels.HAPPINESS,
    "Neutral": labels.NEUTRAL,
    "Sad": labels.SADNESS,
}
_PEOPLE: dict[str, int] = {"train": 70, "val": 15, "test": 15}
_EACH = 3  # pictures of a person's expression
_SIZE = 96  # pixels


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture to write: its name below the root, its person and its class."""

    file: str
    person: int
    label: str


def files(scale: float) -> list[Picture]:
    """All pictures; people are in one split each."""
    found, first = [], 0
    for split, most in _PEOPLE.items():
        people = range(first, first + max(2, round(most * scale)))
        found += [
            Picture(f"{split}/{folder}/p{person:03d} {number}.{_ending(number)}", person, label)
            for person in people
            for folder, label in CLASSES.items()
            for number in range(_EACH)
        ]
        first = people.stop
    return found


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    return len(files(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes faces/ below `out`, keeping what is there; yields 1 a picture."""
    every = files(scale)
    people = 1 + every[-1].person
    pool = stand_in_faces.FacePool(SEED, people, tuple(CLASSES.values()), _SIZE, wild=0.5)
    root = out / "faces"
    for one in every:
        path = root / one.file
        if not path.exists():
            face = stand_in_faces.vary(pool.face(one.person, one.label), one.file)
            encode = stand_in_faces.png if path.suffix == ".png" else stand_in_faces.jpeg
            stand_in_faces.write_file(path, encode(face.image))
        yield 1
    table = ["file,subject", *(f"{one.file},p{one.person:03d}" for one in every)]
    stand_in_faces.write_file(root / tree.SUBJECTS, ("\n".join(table) + "\n").encode())
    stand_in_faces.write_file(root / "train" / "Angry" / "Thumbs.db", b"thumbnails")
    stand_in_faces.write_file(root / "train" / ".cache" / "face.jpg", b"hidden")
    stand_in_faces.write_file(root / "notes.txt", b"Photographed in May.\n")


def _ending(number: int) -> str:
    return ("jpg", "png", "JPG")[number % 3]
