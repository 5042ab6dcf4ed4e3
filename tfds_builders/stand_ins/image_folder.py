"""Stand-in for an image folder: splits, class folders, a subject table, and unrelated files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from fer_jax import labels
from tfds_builders.image_folder import tree
from tfds_builders.stand_ins import faces

SEED = 4711
CLASSES: dict[str, str] = {
    "Angry": labels.ANGER,
    "Happy": labels.HAPPINESS,
    "Neutral": labels.NEUTRAL,
    "Sad": labels.SADNESS,
}
_PEOPLE: dict[str, int] = {"train": 70, "val": 15, "test": 15}
_EACH = 3  # images per person and expression
_SIZE = 96  # pixels


@dataclasses.dataclass(frozen=True)
class Image:
    """An image to write.

    Attributes:
      file: path below the root.
      person: index of the person.
      label: the emotion.
    """

    file: str
    person: int
    label: str


def files(scale: float) -> list[Image]:
    """Returns all images; each person is in one split."""
    images, first = [], 0
    for split, count in _PEOPLE.items():
        people = range(first, first + max(2, round(count * scale)))
        images += [
            Image(f"{split}/{folder}/p{person:03d} {number}.{_suffix(number)}", person, label)
            for person in people
            for folder, label in CLASSES.items()
            for number in range(_EACH)
        ]
        first = people.stop
    return images


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return len(files(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes faces/ below `out`; skips existing images. Yields 1 per image."""
    images = files(scale)
    people = 1 + images[-1].person
    pool = faces.FacePool(SEED, people, tuple(CLASSES.values()), _SIZE, wild=0.5)
    root = out / "faces"
    for image in images:
        path = root / image.file
        if not path.exists():
            face = faces.vary(pool.face(image.person, image.label), image.file)
            encode = faces.png if path.suffix == ".png" else faces.jpeg
            faces.write_file(path, encode(face.image))
        yield 1
    table = ["file,subject", *(f"{image.file},p{image.person:03d}" for image in images)]
    faces.write_file(root / tree.SUBJECTS, ("\n".join(table) + "\n").encode())
    faces.write_file(root / "train" / "Angry" / "Thumbs.db", b"thumbnails")
    faces.write_file(root / "train" / ".cache" / "face.jpg", b"hidden")
    faces.write_file(root / "notes.txt", b"Photographed in May.\n")


def _suffix(number: int) -> str:
    return ("jpg", "png", "JPG")[number % 3]
