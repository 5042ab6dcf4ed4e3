"""Stand-in for RAF-DB's basic part: its file names and irregularities, with rendered faces.

Has the class counts of every split; originals of various sizes with attribute files; the
aligned crops in a zip; and the label list with the typo in its name. Some images have no
attribute file, landmarks that are all zero, or an unsure gender.
`tfds_builders/raf_db/names.py` describes the set.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from fer_jax.faces.align import align
from tfds_builders.raf_db import names
from tfds_builders.stand_ins import faces

SEED = 2017  # the year of RAF-DB
ALIGNED = 100  # pixels
QUALITY = 90

_ROOT, _CROPS = "basic", "aligned"
_MIN_PER_CLASS = 2  # in each split: one for training, one for validation
_IMAGES_PER_RENDER = 6
_MAX_PEOPLE = 400
_RENDERED = 128  # pixels
_SIDES = (120, 320)  # range of width and height of the originals, pixels
_FACE = (0.3, 0.55)  # range of the face height as a fraction of the shorter side
_NO_ATTRIBUTES, _ZEROS, _UNSURE = 40, 41, 7  # every n-th image
_DIGITS = {"train": 5, "test": 4}  # of the numbers in file names


def counts(scale: float) -> dict[str, dict[str, int]]:
    """Returns the number of images of each class in each split."""
    return {
        split: {
            label: max(_MIN_PER_CLASS, round(count * scale)) for label, count in by_class.items()
        }
        for split, by_class in names.COUNTS.items()
    }


def count_images(scale: float) -> int:
    """Number of faces that `write` makes, each an original and a crop."""
    return sum(sum(by_class.values()) for by_class in counts(scale).values())


def listing(scale: float) -> list[tuple[str, str]]:
    """Returns (id, emotion) of every image, with mixed classes, as in the real list."""
    rows = []
    for split, by_class in counts(scale).items():
        mixed = [label for label, count in by_class.items() for _ in range(count)]
        np.random.default_rng(SEED).shuffle(mixed)
        numbered = enumerate(mixed, start=1)
        rows += [(f"{split}_{n:0{_DIGITS[split]}d}", label) for n, label in numbered]
    return rows


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes basic/ below `out`; resumes an interrupted run. Yields image counts."""
    root, rows = out / _ROOT, listing(scale)
    jobs = [(root, person, part) for person, part in enumerate(_assign_people(rows))]
    yield from faces.run_jobs(_write_person, jobs)
    faces.write_file(root / "EmoLabel" / names.LABEL_LIST, _label_list(rows))
    crops = root / "Image" / _CROPS
    if crops.is_dir():  # distributed as a zip inside the folder
        faces.pack(crops, crops.with_suffix(".zip"), crops.parent)


def _assign_people(rows: Sequence[tuple[str, str]]) -> list[list[tuple[str, str, int]]]:
    """Images of each person: id, emotion and position in the list."""
    max_count = max(collections.Counter(label for _, label in rows).values())
    people: list[list[tuple[str, str, int]]] = [
        [] for _ in range(min(_MAX_PEOPLE, -(-max_count // _IMAGES_PER_RENDER)))
    ]
    seen: collections.Counter[str] = collections.Counter()
    for position, (image_id, label) in enumerate(rows):
        people[seen[label] % len(people)].append((image_id, label, position))
        seen[label] += 1
    return people


def _write_person(root: Path, person: int, part: Sequence[tuple[str, str, int]]) -> int:
    """Writes the missing images of a person; returns the number of all."""
    originals, crops = root / "Image" / "original", root / "Image" / _CROPS
    packed = (root / "Image" / f"{_CROPS}.zip").is_file()
    missing = [
        image
        for image in part
        if not (originals / f"{image[0]}.jpg").is_file()
        or not (packed or (crops / f"{image[0]}_aligned.jpg").is_file())
    ]
    spec = faces.make_spec(SEED, _RENDERED, labels.RAF_DB, (0.55, 0.68), wild=0.8)
    rendered = {face.label: face for face in faces.render(spec, person)} if missing else {}
    for image_id, label, position in missing:
        photo = _photo(rendered[label], image_id)
        text = _attributes(photo, position)
        if text:
            file = root / "Annotation" / "manual" / f"{image_id}_manu_attri.txt"
            faces.write_file(file, text)
        aligned = faces.jpeg(align(photo.image, photo.landmarks, ALIGNED))
        faces.write_file(crops / f"{image_id}_aligned.jpg", aligned)
        faces.write_file(originals / f"{image_id}.jpg", faces.jpeg(photo.image, QUALITY))
    return len(part)


def _photo(face: faces.PooledFace, image_id: str) -> faces.PooledFace:
    """Places a face at random in a photo of random size."""
    rng = np.random.default_rng(list(image_id.encode()))
    width, height = (int(side) for side in rng.integers(*_SIDES, 2, endpoint=True))
    tall = rng.uniform(*_FACE) * min(width, height)
    center = (width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6))
    return faces.place(faces.vary(face, image_id), (width, height), center, tall)


def _attributes(photo: faces.PooledFace, position: int) -> bytes:
    """Content of `_manu_attri.txt`; empty for images without that file."""
    if position % _NO_ATTRIBUTES == 1:
        return b""
    points = np.zeros((5, 2)) if position % _ZEROS == 2 else photo.landmarks
    gender = 2 if position % _UNSURE == 3 else int(photo.sex <= 0.5)
    age = min(len(names.AGES) - 1, int(photo.age * len(names.AGES)) + 1)
    lines = [f"{x:.4f}\t{y:.4f}" for x, y in points]
    lines += [str(gender), str(photo.person % len(names.RACES)), str(age)]
    return "\n".join(lines).encode() + b"\n"


def _label_list(rows: Sequence[tuple[str, str]]) -> bytes:
    codes = {label: code for code, label in names.BASIC.codes.items()}
    return "".join(f"{image_id}.jpg {codes[label]}\n" for image_id, label in rows).encode()
