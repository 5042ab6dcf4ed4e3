"""Stand-in for KDEF: its file names, framing and irregularities, with rendered people.

`tfds_builders/kdef/names.py` describes the set.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_jax import labels
from fer_jax.faces.decode import decode
from tfds_builders.kdef import names
from tfds_builders.stand_ins import faces
from tfds_builders.synthface import Face, Spec, render_subject

WIDTH, HEIGHT = 562, 762
SEED = 1998  # the year of KDEF
QUALITY = 90

_IMAGES_PER_PERSON = len(names.SESSIONS) * len(names.EXPRESSIONS) * len(names.VIEWS)
_RENDERED = 192  # pixels; network inputs are smaller
_FILL = (0.6, 0.64)
_SIDE = 840  # size of the render in the image, pixels: a head of 520 pixels, as in KDEF
_JITTER = 4.0  # pixels, of the face position
_MIN_PEOPLE = 3  # of each gender: one per split

# The people with irregular files come first, so that a small stand-in has some.
_FIRST = {"F": (31, 1, 11, 20, 10, 13), "M": (31, 22, 25, 34, 21, 24)}


@dataclasses.dataclass(frozen=True)
class Person:
    """A person to render.

    Attributes:
      gender: one of `names.GENDERS`.
      number: KDEF's number of the person.
      index: the renderer's index of the person.
    """

    gender: str
    number: int
    index: int

    @property
    def folders(self) -> tuple[str, ...]:
        """The person's folder in each session."""
        return tuple(f"{session}{self.gender}{self.number:02d}" for session in names.SESSIONS)


def people(scale: float) -> list[Person]:
    """Returns the people at `scale` (0 to 1): at least three of each gender."""
    count = max(_MIN_PEOPLE, round(names.PEOPLE * scale))
    indices = dict(zip("FM", faces.indices_by_sex(_spec(), count, count), strict=True))
    drawn = []
    for gender in names.GENDERS:
        first = _FIRST[gender]
        rest = (number for number in range(1, names.PEOPLE + 1) if number not in first)
        numbers = [*first, *rest][:count]
        drawn += [Person(gender, *pair) for pair in zip(numbers, indices[gender], strict=True)]
    return drawn


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes KDEF_and_AKDEF/ below `out`; skips existing folders. Yields image counts."""
    root = out / "KDEF_and_AKDEF"
    (root / "KDEF").mkdir(parents=True, exist_ok=True)
    everyone = people(scale)
    missing = [
        person
        for person in everyone
        if not all((root / "KDEF" / folder).is_dir() for folder in person.folders)
    ]
    yield from (_IMAGES_PER_PERSON for _ in range(len(everyone) - len(missing)))
    jobs = [(person, root / "KDEF") for person in missing]
    yield from faces.run_jobs(_write_person, jobs, in_process=1)
    _write_averages(root)


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return len(people(scale)) * _IMAGES_PER_PERSON


def frame(image: np.ndarray, face_box: tuple[float, float, float, float], view: str) -> np.ndarray:
    """Places a rendered image as KDEF's cameras frame the face.

    Args:
      image: uint8[S, S, 3], RGB.
      face_box: x, y, width, height in pixels.
      view: one of `names.VIEWS`.

    Returns:
      uint8[762, 562, 3], RGB; the centers of the face box and of the view's box match.
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


def _spec() -> Spec:
    yaws = tuple(yaw for yaw, _ in names.VIEWS.values())
    sessions = len(names.SESSIONS)
    return faces.make_spec(SEED, _RENDERED, labels.SEVEN, _FILL, yaws=yaws, sessions=sessions)


def _write_person(person: Person, folder: Path) -> int:
    """Writes both sessions of a person, each folder atomically; returns the number of images."""
    rendered = render_subject(_spec(), person.index)
    for session, name in enumerate(person.folders):
        partial = folder / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for face in rendered:
            if face.session == session:
                image_id = name + _code(face)
                (partial / f"{_misname(image_id)}.JPG").write_bytes(_photo(image_id, face))
        shutil.rmtree(folder / name, ignore_errors=True)
        partial.rename(folder / name)
    return len(rendered)


def _code(face: Face) -> str:
    """KDEF's code of expression and view."""
    expression = next(key for key, label in names.EXPRESSIONS.items() if label == face.expression)
    view = next(key for key, (yaw, _) in names.VIEWS.items() if yaw == face.yaw)
    return expression + view


def _misname(image_id: str) -> str:
    wrong = {right: wrong for wrong, right in names.MISNAMED.items()}
    return wrong.get(image_id, image_id)


def _photo(image_id: str, face: Face) -> bytes:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    if image_id not in names.BLACK:
        rng = np.random.default_rng(list(image_id.encode()))
        x, y, width, height = face.face_box
        scale = face.image.shape[0] / _SIDE
        shift = rng.uniform(-_JITTER, _JITTER, 2) * scale
        box = (x + shift[0], y + shift[1], width, height)
        image = frame(face.image, box, image_id[6:])
    return faces.jpeg(image, QUALITY)


def _write_averages(root: Path) -> None:
    """Writes the AKDEF folder of mean faces, which the builder must ignore."""
    folder = root / "AKDEF"
    folder.mkdir(exist_ok=True)
    for gender in names.GENDERS:
        for expression in names.EXPRESSIONS:
            files = sorted((root / "KDEF").glob(f"A{gender}*/A{gender}??{expression}S.JPG"))
            mean = np.mean([decode(file.read_bytes()) for file in files], axis=0)
            data = faces.jpeg(mean.astype(np.uint8), QUALITY)
            (folder / f"A{gender}{expression}S.JPG").write_bytes(data)
