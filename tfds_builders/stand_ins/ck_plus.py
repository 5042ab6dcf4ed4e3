"""Stand-in for CK+: sequences from neutral to peak, emotion files, and CK+48 made from them.

Has the real numbers of people, sequences and labels, but shorter sequences.
`tfds_builders/ck_plus/names.py` describes the set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders.ck_plus import names
from tfds_builders.stand_ins import faces

SEED = 2010
WIDTH, HEIGHT = 640, 490
PEOPLE, LABELED_PEOPLE = 123, 118
_MIN_PEOPLE = 6  # with labels: every class in each of three splits
_MIN_PER_EMOTION = 3  # sequences: one per split
_FRAMES = (5, 8)  # range of the number of frames per sequence
_RENDERED = 112  # pixels
_FACE = 220  # height of the face box in a frame, pixels
_SMALL = 48  # image size of CK+48, pixels


@dataclasses.dataclass(frozen=True)
class Sequence:
    """A sequence to write.

    Attributes:
      person: index of the person.
      number: number of the sequence of this person, from 1.
      emotion: the emotion at the peak.
      labeled: whether it has an emotion file.
    """

    person: int
    number: int
    emotion: str
    labeled: bool

    @property
    def subject(self) -> str:
        """Person id as in the set's file names."""
        return f"S{self.person + 5:03d}"

    @property
    def frames(self) -> int:
        """Number of frames."""
        rng = np.random.default_rng([SEED, self.person, self.number])
        return int(rng.integers(_FRAMES[0], _FRAMES[1] + 1))


def sequences(scale: float) -> list[Sequence]:
    """Returns all sequences; a person has at most one labeled sequence per emotion."""
    people = max(_MIN_PEOPLE, round(LABELED_PEOPLE * scale))
    shown: dict[int, list[tuple[str, bool]]] = {person: [] for person in range(people)}
    dealt = 0
    for emotion, count in sorted(names.COUNTS.items(), key=lambda pair: pair[1]):
        for _ in range(max(_MIN_PER_EMOTION, round(count * scale))):
            shown[dealt % people].append((emotion, True))
            dealt += 1
    emotions = list(names.COUNTS)
    others = people + max(1, round((PEOPLE - LABELED_PEOPLE) * scale))
    for number in range(max(2, round((names.SEQUENCES - names.LABELED) * scale))):
        shown.setdefault(number % others, []).append((emotions[number % len(emotions)], False))
    return [
        Sequence(person, number, emotion, labeled)
        for person, emotions_shown in sorted(shown.items())
        for number, (emotion, labeled) in enumerate(emotions_shown, start=1)
    ]


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return sum(sequence.frames + names.PEAKS * sequence.labeled for sequence in sequences(scale))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes frames, emotion files and CK+48 below `out`. Yields image counts."""
    all_sequences = sequences(scale)
    people = 1 + max(sequence.person for sequence in all_sequences)
    pool = faces.FacePool(
        SEED, people, (labels.NEUTRAL, *names.COUNTS), _RENDERED, fill=(0.6, 0.66)
    )
    for sequence in all_sequences:
        emotion = out / "Emotion" / sequence.subject / f"{sequence.number:03d}"
        if not emotion.is_dir():  # created last; unlabeled sequences have an empty folder
            _write_sequence(out, sequence, pool)
            emotion.mkdir(parents=True)
            if sequence.labeled:
                code = labels.CK_PLUS.index(sequence.emotion)
                file = emotion / f"{_stem(sequence, sequence.frames)}_emotion.txt"
                faces.write_file(file, f"   {code:.7e}\n".encode())
        yield sequence.frames + names.PEAKS * sequence.labeled
    for folder in ("cohn-kanade-images", "Emotion"):
        faces.write_file(out / folder / ".DS_Store", b"\0\0\0\1Bud1")


def _write_sequence(out: Path, sequence: Sequence, pool: faces.FacePool) -> None:
    folder = out / "cohn-kanade-images" / sequence.subject / f"{sequence.number:03d}"
    neutral = _place(pool.face(sequence.person, labels.NEUTRAL), sequence)
    peak = _place(pool.face(sequence.person, sequence.emotion), sequence)
    small = {label: name for name, label in names.SMALL_FOLDERS.items()}[sequence.emotion]
    for number in range(1, sequence.frames + 1):
        weight = min(1.0, (number - 1) / (sequence.frames - names.PEAKS))
        mixed = cv2.addWeighted(peak.image, weight, neutral.image, 1.0 - weight, 0.0)
        gray = cv2.cvtColor(mixed, cv2.COLOR_RGB2GRAY)
        name = f"{_stem(sequence, number)}.png"
        faces.write_file(folder / name, faces.png(gray))
        if sequence.labeled and number > sequence.frames - names.PEAKS:
            crop = _crop(gray, peak.face_box)
            faces.write_file(out / "CK+48" / small / name, faces.png(crop))


def _place(face: faces.PooledFace, sequence: Sequence) -> faces.PooledFace:
    """Places a face in a frame; position and light are the same for a whole sequence."""
    rng = np.random.default_rng([SEED, sequence.person, sequence.number, 1])
    center = (WIDTH / 2 + rng.uniform(-30, 30), HEIGHT / 2 + rng.uniform(-20, 20))
    placed = faces.place(face, (WIDTH, HEIGHT), center, _FACE)
    light = float(rng.uniform(0.8, 1.2))
    lit = np.clip(placed.image * light, 0, 255).astype(np.uint8)
    return dataclasses.replace(placed, image=lit)


def _crop(gray: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    x, y, width, height = (round(value) for value in box)
    side = max(width, height)
    left, top = max(0, x + (width - side) // 2), max(0, y)
    face = gray[top : top + side, left : left + side]
    return cv2.resize(face, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)


def _stem(sequence: Sequence, frame: int) -> str:
    return f"{sequence.subject}_{sequence.number:03d}_{frame:08d}"
