"""A stand-in for RaFD: its exact files, with rendered people, and its traps.

The face lies where each camera sees it, and every file carries the mark of a stand-in.
Traps: files with something before their name, PNGs, a second copy in a folder of its
own, a picture of another name. What the set looks like is in names.py; the command is
tfds_builders/stand_ins/write.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from fer_jax import labels
from tfds_builders.rafd import names
from tfds_builders.stand_ins import faces as stand_in_faces
from tfds_builders.synthface import Spec

FOLDER = "RafDDownload-19A55E2F"
WIDTH, HEIGHT = 681, 1024
SEED = 2010  # RaFD's year; no other set here has these people
QUALITY = 90

# Adults, children and Moroccans as Langner et al. (2010) count them. Which number is who is
# ours. Children look like adults here: the head model has none.
_COUNTS = {
    ("Caucasian", "female"): 19,
    ("Caucasian", "male"): 20,
    ("Kid", "female"): 6,
    ("Kid", "male"): 4,
    ("Moroccan", "male"): 18,
}
_MINIMUM = {("Kid", "female"): 2, ("Kid", "male"): 1}  # three of each stratum, for three splits
_VIEWS = tuple((camera, gaze) for gaze in names.GAZES for camera in names.VIEWS)
_STRIDE = 4  # prime to the 15 views: few of each person still give every camera and gaze
_RENDERED = 192  # pixels; the crops that networks see are hardly larger
_FILL = (0.5, 0.54)  # the head's share of the render
_FACE = 330.0  # pixels, brows to chin

_PREFIXED, _AS_PNG, _TWICE = 5, 7, 11  # of a person's first pictures, one trap each


@dataclasses.dataclass(frozen=True)
class Person:
    """One model: number, kind and sex in RaFD, and the renderer's index."""

    number: int
    kind: str
    sex: str
    index: int


def people(scale: float) -> list[Person]:
    """The models of a stand-in of `scale` (0 to 1): at least three of each stratum."""
    counts = {
        key: max(_MINIMUM.get(key, 3), round(whole * scale)) for key, whole in _COUNTS.items()
    }
    women = sum(count for (_, sex), count in counts.items() if sex == "female")
    found = stand_in_faces.indices_by_sex(_spec(0.0, "frontal"), women, sum(counts.values()) - women)
    indices = dict(zip(names.SEXES, map(iter, found), strict=True))
    numbers = iter(names.NUMBERS)
    return [
        Person(next(numbers), kind, sex, next(indices[sex]))
        for (kind, sex), count in counts.items()
        for _ in range(count)
    ]


def views_of(scale: float) -> int:
    """How many of the 15 pairs of camera and gaze each model of a stand-in has."""
    whole = len(names.NUMBERS) * len(_VIEWS)
    return min(len(_VIEWS), max(1, round(scale * whole / len(people(scale)))))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes the folder of an unpacked archive below `out`; what is there is kept.

    Yields:
      The number of pictures of each model, as they are finished.
    """
    each = views_of(scale)
    jobs = [(one, _views(number, each), out / FOLDER) for number, one in enumerate(people(scale))]
    yield from stand_in_faces.run_jobs(_write_person, jobs)
    _write_traps(out / FOLDER)


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    return len(people(scale)) * views_of(scale) * len(labels.RAFD)


def pack(out: Path) -> None:
    """Leaves the archive as it is sent, which has no folders, instead of its tree."""
    if (out / FOLDER).is_dir():
        stand_in_faces.pack(out / FOLDER, out / f"{FOLDER}.zip", out / FOLDER)


def _views(number: int, each: int) -> list[tuple[str, str]]:
    """Other views for the next person, so that a small stand-in has them all."""
    return [_VIEWS[(number + _STRIDE * step) % len(_VIEWS)] for step in range(each)]


def _spec(yaw: float, gaze: str) -> Spec:
    """One camera and gaze; the expression is that of the same moment for all five cameras."""
    return Spec(
        "rafd_stand_in",
        seed=SEED,
        subjects=0,
        size=_RENDERED,
        expressions=labels.RAFD,
        yaws=(yaw,),
        gazes=(gaze,),
        fill=_FILL,
        supersample=1,
    )


def _write_person(person: Person, views: Sequence[tuple[str, str]], folder: Path) -> int:
    """All pictures of one model that are not there yet."""
    words = {label: word for word, label in names.EXPRESSIONS.items()}
    for number, (camera, gaze) in enumerate(views):
        files = {
            label: _file_name(person, camera, words[label], gaze, number) for label in labels.RAFD
        }
        if all((folder / file).is_file() for file in files.values()):
            continue
        for face in stand_in_faces.render(_spec(names.VIEWS[camera][0], gaze), person.index):
            file = files[face.label]
            stand_in_faces.write_file(folder / file, _picture(face, camera, file))
    return len(views) * len(labels.RAFD)


def _file_name(person: Person, camera: str, expression: str, gaze: str, number: int) -> str:
    name = f"Rafd{camera}_{person.number:02d}_{person.kind}_{person.sex}_{expression}_{gaze}"
    first = number == 0 and expression == "happy"
    if first and person.number == _PREFIXED:
        return f"s1_{name}.jpg"
    return name + (".png" if first and person.number == _AS_PNG else ".jpg")


def _picture(face: stand_in_faces.PooledFace, camera: str, file: str) -> bytes:
    x, y, width, height = names.VIEWS[camera][1]
    center = ((x + width / 2) * WIDTH, (y + height / 2) * HEIGHT)
    image = stand_in_faces.place(face, (WIDTH, HEIGHT), center, _FACE).image
    if file.endswith(".png"):
        return stand_in_faces.png(image)
    return stand_in_faces.jpeg(image, QUALITY)


def _write_traps(folder: Path) -> None:
    """A second copy of some pictures one folder deeper, and a picture that is not RaFD's."""
    twice = sorted(folder.glob(f"Rafd*_{_TWICE:02d}_*_happy_*.jpg"))
    for file in twice:
        stand_in_faces.write_file(folder / FOLDER / file.name, file.read_bytes())
    stand_in_faces.write_file(folder / "contact sheet.jpg", twice[0].read_bytes())
