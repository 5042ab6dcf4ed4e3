"""A stand-in for RAF-DB's basic part: its exact files, with rendered faces, and its traps.

Faces in the wild with RAF-DB's counts of every class and split, as originals of different
sizes with attribute files, and as the aligned crops, still in their zip, beside the label
list with the typo in its name. Traps: pictures without an attribute file, one of zeros, the
gender nobody is sure of. What the set looks like is in names.py; the command is
tfds_builders/stand_ins/write.py.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from fer_jax.faces import detect as faces
from tfds_builders.raf_db import names
from tfds_builders.stand_ins import faces as stand_in_faces
from tfds_builders.synthface import Spec

SEED = 2017  # RAF-DB's year; no other set here has these people
ALIGNED = 100  # pixels
QUALITY = 90

_ROOT, _CROPS = "basic", "aligned"
_FEWEST = 2  # of a class in a split, so that validation and train get one each
_ROUNDS = 6  # pictures made of one render
_MOST_PEOPLE = 400
_RENDERED = 128  # pixels
_SIDES = (120, 320)  # pixels of the originals
_FACE = (0.3, 0.55)  # brows to chin, as a share of the original's side
_NO_ATTRIBUTES, _ZEROS, _UNSURE = 40, 41, 7  # every so many-th picture
_DIGITS = {"train": 5, "test": 4}  # of the numbers in names


def counts(scale: float) -> dict[str, dict[str, int]]:
    """Pictures of each class in each split at `scale` (0 to 1): at least two."""
    return {
        split: {label: max(_FEWEST, round(count * scale)) for label, count in of_class.items()}
        for split, of_class in names.COUNTS.items()
    }


def count_images(scale: float) -> int:
    """How many faces `write` makes, each as an original and as a crop."""
    return sum(sum(of_class.values()) for of_class in counts(scale).values())


def listing(scale: float) -> list[tuple[str, str]]:
    """Id and emotion of every picture; classes are mixed as in the real list."""
    found = []
    for split, of_class in counts(scale).items():
        mixed = [label for label, count in of_class.items() for _ in range(count)]
        np.random.default_rng(SEED).shuffle(mixed)
        numbered = enumerate(mixed, start=1)
        found += [(f"{split}_{n:0{_DIGITS[split]}d}", label) for n, label in numbered]
    return found


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes basic/ below `out`; what an earlier run finished is kept.

    Yields:
      Numbers of pictures, as they are finished.
    """
    root, listed = out / _ROOT, listing(scale)
    jobs = [(root, person, part) for person, part in enumerate(_shares(listed))]
    yield from stand_in_faces.run_jobs(_write_person, jobs)
    stand_in_faces.write_file(root / "EmoLabel" / names.LABEL_LIST, _label_list(listed))
    crops = root / "Image" / _CROPS
    if crops.is_dir():  # they come in a zip of their own, which many never unpack
        stand_in_faces.pack(crops, crops.with_suffix(".zip"), crops.parent)


def _shares(listed: Sequence[tuple[str, str]]) -> list[list[tuple[str, str, int]]]:
    """Which pictures show which person: id, emotion and position in the list."""
    most = max(collections.Counter(label for _, label in listed).values())
    shares: list[list[tuple[str, str, int]]] = [
        [] for _ in range(min(_MOST_PEOPLE, -(-most // _ROUNDS)))
    ]
    seen: collections.Counter[str] = collections.Counter()
    for position, (one, label) in enumerate(listed):
        shares[seen[label] % len(shares)].append((one, label, position))
        seen[label] += 1
    return shares


def _spec() -> Spec:
    return Spec(
        "raf_db_stand_in",
        seed=SEED,
        subjects=0,
        size=_RENDERED,
        expressions=labels.RAF_DB,
        wild=0.8,
        fill=(0.55, 0.68),
        supersample=1,
    )


def _write_person(root: Path, person: int, part: Sequence[tuple[str, str, int]]) -> int:
    """All pictures of one person that are not there yet."""
    originals, crops = root / "Image" / "original", root / "Image" / _CROPS
    packed = (root / "Image" / f"{_CROPS}.zip").is_file()
    todo = [
        one
        for one in part
        if not (originals / f"{one[0]}.jpg").is_file()
        or not (packed or (crops / f"{one[0]}_aligned.jpg").is_file())
    ]
    rendered = {one.label: one for one in stand_in_faces.render(_spec(), person)} if todo else {}
    for one, label, position in todo:
        picture = _photograph(rendered[label], one)
        text = _attributes(picture, position)
        if text:
            file = root / "Annotation" / "manual" / f"{one}_manu_attri.txt"
            stand_in_faces.write_file(file, text)
        aligned = stand_in_faces.jpeg(faces.align(picture.image, picture.landmarks, ALIGNED))
        stand_in_faces.write_file(crops / f"{one}_aligned.jpg", aligned)
        original = stand_in_faces.jpeg(picture.image, QUALITY)
        stand_in_faces.write_file(originals / f"{one}.jpg", original)
    return len(part)


def _photograph(face: stand_in_faces.PooledFace, one: str) -> stand_in_faces.PooledFace:
    """The face somewhere in a picture of some size."""
    rng = np.random.default_rng(list(one.encode()))
    width, height = (int(side) for side in rng.integers(*_SIDES, 2, endpoint=True))
    tall = rng.uniform(*_FACE) * min(width, height)
    center = (width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6))
    return stand_in_faces.place(stand_in_faces.vary(face, one), (width, height), center, tall)


def _attributes(picture: stand_in_faces.PooledFace, position: int) -> bytes:
    """A `_manu_attri.txt`; empty where the trap is that there is none."""
    if position % _NO_ATTRIBUTES == 1:
        return b""
    points = np.zeros((5, 2)) if position % _ZEROS == 2 else picture.landmarks
    gender = 2 if position % _UNSURE == 3 else int(picture.sex <= 0.5)
    age = min(len(names.AGES) - 1, int(picture.age * len(names.AGES)) + 1)
    lines = [f"{x:.4f}\t{y:.4f}" for x, y in points]
    lines += [str(gender), str(picture.person % len(names.RACES)), str(age)]
    return "\n".join(lines).encode() + b"\n"


def _label_list(listed: Sequence[tuple[str, str]]) -> bytes:
    codes = {label: code for code, label in names.CODES.items()}
    return "".join(f"{one}.jpg {codes[label]}\n" for one, label in listed).encode()
