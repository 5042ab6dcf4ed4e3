"""A stand-in for KDEF: its exact files, with rendered people, and its traps.

The face lies where each camera of KDEF sees it, and every file carries the mark of a
stand-in. What the set looks like is in names.py; the command is tfds_builders/stand_ins/write.py.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from tfds_builders import pictures
from tfds_builders.kdef import names
from tfds_builders.synthface import Face, Spec, render_subject
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.spec import PERSON

WIDTH, HEIGHT = 562, 762
SEED = 1998  # KDEF's year; no other set here has these people
QUALITY = 90

_EACH = len(names.SESSIONS) * len(names.EXPRESSIONS) * len(names.VIEWS)  # pictures of a person
_RENDERED = 192  # pixels; the crops that networks see are smaller
_FILL = (0.6, 0.64)  # the head's share of the render
_SIDE = 840  # pixels of the render in the picture: a head of 520, as in KDEF
_JITTER = 4.0  # pixels; people do not sit still
_MINIMUM = 3  # of each gender: one for every split

# The people whose pictures have traps come first, so that a small stand-in has some.
_FIRST = {"F": (31, 1, 11, 20, 10, 13), "M": (31, 22, 25, 34, 21, 24)}


@dataclasses.dataclass(frozen=True)
class Person:
    """One person to render: gender and number in KDEF, and the renderer's index."""

    gender: str
    number: int
    index: int

    @property
    def folders(self) -> tuple[str, ...]:
        """The person's folder in each session."""
        return tuple(f"{session}{self.gender}{self.number:02d}" for session in names.SESSIONS)


def people(scale: float) -> list[Person]:
    """The people of a stand-in of `scale` (0 to 1) of KDEF: at least three of each gender."""
    count = max(_MINIMUM, round(names.PEOPLE * scale))
    found = []
    for gender, indices in _indices(count).items():
        first = _FIRST[gender]
        rest = (number for number in range(1, names.PEOPLE + 1) if number not in first)
        numbers = [*first, *rest][:count]
        found += [Person(gender, *pair) for pair in zip(numbers, indices, strict=True)]
    return found


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes the tree below `out`; what an earlier run finished is kept.

    Yields:
      The number of pictures of each person, as they are finished.
    """
    root = out / "KDEF_and_AKDEF"
    (root / "KDEF").mkdir(parents=True, exist_ok=True)
    everyone = people(scale)
    missing = [
        one
        for one in everyone
        if not all((root / "KDEF" / folder).is_dir() for folder in one.folders)
    ]
    # Spawned: a fork would copy whatever threads the caller has.
    pool = concurrent.futures.ProcessPoolExecutor(
        max_workers=len(os.sched_getaffinity(0)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    yield from (_EACH for _ in range(len(everyone) - len(missing)))
    with pool:
        futures = [pool.submit(_write_person, one, root / "KDEF") for one in missing]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
    _write_averages(root)


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    return len(people(scale)) * _EACH


def frame(image: np.ndarray, face_box: tuple[float, float, float, float], view: str) -> np.ndarray:
    """Puts a rendered square into KDEF's framing.

    Args:
      image: uint8[S, S, 3], RGB.
      face_box: Of the face in it: x, y, width, height in pixels.
      view: One of `names.VIEWS`.

    Returns:
      uint8[762, 562, 3], RGB; the face's center is that of the view's box.
    """
    scale = _SIDE / image.shape[0]
    target = _center(names.VIEWS[view][1]) * (WIDTH, HEIGHT)
    shift = target - scale * _center(face_box)
    matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    return cv2.warpAffine(
        image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _center(box: tuple[float, float, float, float]) -> np.ndarray:
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def _spec(subjects: int) -> Spec:
    return Spec(
        "kdef_stand_in",
        seed=SEED,
        subjects=subjects,
        size=_RENDERED,
        expressions=labels.SEVEN,
        yaws=tuple(yaw for yaw, _ in names.VIEWS.values()),
        sessions=len(names.SESSIONS),
        fill=_FILL,
        supersample=1,
    )


def _indices(count: int) -> dict[str, list[int]]:
    """The renderer's first `count` people of each gender."""
    head, spec = load_head(), _spec(0)
    found: dict[str, list[int]] = {gender: [] for gender in names.GENDERS}
    index = 0
    while min(map(len, found.values())) < count:
        person = draw_person(head, spec.rng(index, PERSON), spec.glasses)
        found["M" if person.male > 0.5 else "F"].append(index)
        index += 1
    return {gender: indices[:count] for gender, indices in found.items()}


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _write_person(person: Person, folder: Path) -> int:
    """Both sessions of one person; each folder appears whole or not at all."""
    rendered = render_subject(_spec(person.index + 1), person.index)
    for session, name in enumerate(person.folders):
        partial = folder / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for face in rendered:
            if face.session == session:
                one = name + _code(face)
                (partial / f"{_misname(one)}.JPG").write_bytes(_picture(one, face))
        shutil.rmtree(folder / name, ignore_errors=True)
        partial.rename(folder / name)
    return len(rendered)


def _code(face: Face) -> str:
    """Expression and view as KDEF writes them."""
    expression = next(key for key, label in names.EXPRESSIONS.items() if label == face.expression)
    view = next(key for key, (yaw, _) in names.VIEWS.items() if yaw == face.yaw)
    return expression + view


def _misname(one: str) -> str:
    wrong = {right: wrong for wrong, right in names.MISNAMED.items()}
    return wrong.get(one, one)


def _picture(one: str, face: Face) -> bytes:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    if one not in names.BLACK:
        rng = np.random.default_rng(list(one.encode()))
        x, y, width, height = face.face_box
        scale = face.image.shape[0] / _SIDE
        moved = rng.uniform(-_JITTER, _JITTER, 2) * scale
        box = (x + moved[0], y + moved[1], width, height)
        picture = frame(face.image, box, one[6:])
    return pictures.mark_stand_in(pictures.encode_jpeg(picture, QUALITY))


def _write_averages(root: Path) -> None:
    """The AKDEF folder: averages over people, which a builder must not take for pictures."""
    folder = root / "AKDEF"
    folder.mkdir(exist_ok=True)
    for gender in names.GENDERS:
        for expression in names.EXPRESSIONS:
            files = sorted((root / "KDEF").glob(f"A{gender}*/A{gender}??{expression}S.JPG"))
            mean = np.mean([pictures.decode_jpeg(file.read_bytes()) for file in files], axis=0)
            data = pictures.encode_jpeg(mean.astype(np.uint8), QUALITY)
            (folder / f"A{gender}{expression}S.JPG").write_bytes(pictures.mark_stand_in(data))
