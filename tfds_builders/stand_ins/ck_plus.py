"""A stand-in for CK+: sequences from neutral to peak, emotion files, and CK+48 from them.

Every picture carries the mark of a stand-in. Sequences are shorter than the real ones; the
numbers of people, sequences and labels are theirs. What the set looks like is in names.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders.ck_plus import names
from tfds_builders.stand_ins import faces as stand_in_faces

SEED = 2010
WIDTH, HEIGHT = 640, 490
PEOPLE, LABELED_PEOPLE = 123, 118
_FEWEST = 6  # people with labels: every class in each of three splits
_LEAST = 3  # sequences of each emotion: as many splits
_FRAMES = (5, 8)  # frames of a sequence, least and most
_RENDERED = 112  # pixels
_FACE = 220  # pixels of the face box's height in a frame
_SMALL = 48


@dataclasses.dataclass(frozen=True)
class Sequence:
    """A sequence to write: person and number, what is shown, and whether it has a label."""

    person: int
    number: int
    emotion: str
    labeled: bool

    @property
    def subject(self) -> str:
        """As in the set's names."""
        return f"S{self.person + 5:03d}"

    @property
    def frames(self) -> int:
        """How many pictures it has."""
        rng = np.random.default_rng([SEED, self.person, self.number])
        return int(rng.integers(_FRAMES[0], _FRAMES[1] + 1))


def sequences(scale: float) -> list[Sequence]:
    """Labeled and unlabeled sequences; nobody has two labels of one emotion."""
    people = max(_FEWEST, round(LABELED_PEOPLE * scale))
    shown: dict[int, list[tuple[str, bool]]] = {person: [] for person in range(people)}
    dealt = 0
    for emotion, count in sorted(names.COUNTS.items(), key=lambda pair: pair[1]):
        for _ in range(max(_LEAST, round(count * scale))):
            shown[dealt % people].append((emotion, True))
            dealt += 1
    emotions = list(names.COUNTS)
    others = people + max(1, round((PEOPLE - LABELED_PEOPLE) * scale))
    for number in range(max(2, round((names.SEQUENCES - names.LABELED) * scale))):
        shown.setdefault(number % others, []).append((emotions[number % len(emotions)], False))
    return [
        Sequence(person, number, *one)
        for person, some in sorted(shown.items())
        for number, one in enumerate(some, start=1)
    ]


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    every = sequences(scale)
    return sum(one.frames + names.PEAKS * one.labeled for one in every)


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes images, emotion files and CK+48 below `out`; yields the pictures of a sequence."""
    every = sequences(scale)
    people = 1 + max(one.person for one in every)
    pool = stand_in_faces.FacePool(
        SEED, people, (labels.NEUTRAL, *names.COUNTS), _RENDERED, fill=(0.6, 0.66)
    )
    for one in every:
        done = out / "Emotion" / one.subject / f"{one.number:03d}"
        if not done.is_dir():  # made last: the folder is there for sequences without a label too
            _write_sequence(out, one, pool)
            done.mkdir(parents=True)
            if one.labeled:
                code = labels.CK_PLUS.index(one.emotion)
                file = done / f"{_stem(one, one.frames)}_emotion.txt"
                stand_in_faces.write_file(file, f"   {code:.7e}\n".encode())
        yield one.frames + names.PEAKS * one.labeled
    for folder in ("cohn-kanade-images", "Emotion"):
        stand_in_faces.write_file(out / folder / ".DS_Store", b"\0\0\0\1Bud1")


def _write_sequence(out: Path, one: Sequence, pool: stand_in_faces.FacePool) -> None:
    folder = out / "cohn-kanade-images" / one.subject / f"{one.number:03d}"
    neutral = _framed(pool.face(one.person, labels.NEUTRAL), one)
    peak = _framed(pool.face(one.person, one.emotion), one)
    small = {label: name for name, label in names.SMALL_FOLDERS.items()}[one.emotion]
    for number in range(1, one.frames + 1):
        share = min(1.0, (number - 1) / (one.frames - names.PEAKS))
        mixed = cv2.addWeighted(peak.image, share, neutral.image, 1.0 - share, 0.0)
        gray = cv2.cvtColor(mixed, cv2.COLOR_RGB2GRAY)
        name = f"{_stem(one, number)}.png"
        stand_in_faces.write_file(folder / name, stand_in_faces.png(gray))
        if one.labeled and number > one.frames - names.PEAKS:
            face = _cut(gray, peak.face_box)
            stand_in_faces.write_file(out / "CK+48" / small / name, stand_in_faces.png(face))


def _framed(face: stand_in_faces.PooledFace, one: Sequence) -> stand_in_faces.PooledFace:
    """The same place for all frames of a sequence, another for the next."""
    rng = np.random.default_rng([SEED, one.person, one.number, 1])
    center = (WIDTH / 2 + rng.uniform(-30, 30), HEIGHT / 2 + rng.uniform(-20, 20))
    placed = stand_in_faces.place(face, (WIDTH, HEIGHT), center, _FACE)
    light = float(rng.uniform(0.8, 1.2))
    lit = np.clip(placed.image * light, 0, 255).astype(np.uint8)
    return dataclasses.replace(placed, image=lit)


def _cut(gray: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    x, y, width, height = (round(value) for value in box)
    side = max(width, height)
    left, top = max(0, x + (width - side) // 2), max(0, y)
    face = gray[top : top + side, left : left + side]
    return cv2.resize(face, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)


def _stem(one: Sequence, number: int) -> str:
    return f"{one.subject}_{one.number:03d}_{number:08d}"
