"""Stand-in for RaFD: its file names, framing and irregularities, with rendered people.

Irregularities: a file name with a prefix, a PNG, duplicates in a subfolder, and a file
that is not RaFD's. `tfds_builders/rafd/names.py` describes the set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from fer_jax import labels
from tfds_builders.rafd import names
from tfds_builders.stand_ins import faces
from tfds_builders.synthface import Spec

FOLDER = "RafDDownload-19A55E2F"
WIDTH, HEIGHT = 681, 1024
SEED = 2010  # the year of RaFD
QUALITY = 90

# Counts from Langner et al. (2010); the assignment of numbers to people is arbitrary. Children
# look like adults: the head model has no children.
_COUNTS = {
    ("Caucasian", "female"): 19,
    ("Caucasian", "male"): 20,
    ("Kid", "female"): 6,
    ("Kid", "male"): 4,
    ("Moroccan", "male"): 18,
}
_MIN_PEOPLE = 3  # of each stratum: one per split
_MIN_KIDS = {"female": 2, "male": 1}  # one stratum
_VIEWS = tuple((camera, gaze) for gaze in names.GAZES for camera in names.VIEWS)
_STRIDE = 4  # coprime to the 15 views, so that few views per person cover all
_RENDERED = 192  # pixels; network inputs are hardly larger
_FILL = (0.5, 0.54)
_FACE = 330.0  # height of the face box, pixels

_PREFIXED, _AS_PNG, _DUPLICATED = 5, 7, 11  # numbers of the people with an irregular file


@dataclasses.dataclass(frozen=True)
class Person:
    """A person to render.

    Attributes:
      number: RaFD's number of the person.
      kind: "Caucasian", "Kid" or "Moroccan".
      sex: "female" or "male".
      index: the renderer's index of the person.
    """

    number: int
    kind: str
    sex: str
    index: int


def people(scale: float) -> list[Person]:
    """Returns the people at `scale` (0 to 1): at least three of each stratum."""
    counts = {
        (kind, sex): max(_MIN_KIDS[sex] if kind == "Kid" else _MIN_PEOPLE, round(count * scale))
        for (kind, sex), count in _COUNTS.items()
    }
    women = sum(count for (_, sex), count in counts.items() if sex == "female")
    by_sex = faces.indices_by_sex(_spec(0.0, "frontal"), women, sum(counts.values()) - women)
    indices = dict(zip(names.SEXES, map(iter, by_sex), strict=True))
    numbers = iter(names.NUMBERS)
    return [
        Person(next(numbers), kind, sex, next(indices[sex]))
        for (kind, sex), count in counts.items()
        for _ in range(count)
    ]


def views_of(scale: float) -> int:
    """Returns how many of the 15 pairs of camera and gaze each person has."""
    whole = len(names.NUMBERS) * len(_VIEWS)
    return min(len(_VIEWS), max(1, round(scale * whole / len(people(scale)))))


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes the unpacked folder below `out`; skips existing images. Yields image counts."""
    count = views_of(scale)
    jobs = [
        (person, _views(number, count), out / FOLDER) for number, person in enumerate(people(scale))
    ]
    yield from faces.run_jobs(_write_person, jobs)
    _write_irregular_files(out / FOLDER)


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return len(people(scale)) * views_of(scale) * len(labels.RAFD)


def pack(out: Path) -> None:
    """Replaces the folder by the archive as distributed, which has no folders."""
    if (out / FOLDER).is_dir():
        faces.pack(out / FOLDER, out / f"{FOLDER}.zip", out / FOLDER)


def _views(number: int, count: int) -> list[tuple[str, str]]:
    """Views of a person, different from the next person's."""
    return [_VIEWS[(number + _STRIDE * step) % len(_VIEWS)] for step in range(count)]


def _spec(yaw: float, gaze: str) -> Spec:
    return faces.make_spec(SEED, _RENDERED, labels.RAFD, _FILL, yaws=(yaw,), gazes=(gaze,))


def _write_person(person: Person, views: Sequence[tuple[str, str]], folder: Path) -> int:
    """Writes the missing images of a person; returns the number of all."""
    words = {label: word for word, label in names.EXPRESSIONS.items()}
    for number, (camera, gaze) in enumerate(views):
        files = {
            label: _file_name(person, camera, words[label], gaze, number) for label in labels.RAFD
        }
        if all((folder / file).is_file() for file in files.values()):
            continue
        for face in faces.render(_spec(names.VIEWS[camera][0], gaze), person.index):
            file = files[face.label]
            faces.write_file(folder / file, _photo(face, camera, file))
    return len(views) * len(labels.RAFD)


def _file_name(person: Person, camera: str, expression: str, gaze: str, number: int) -> str:
    name = f"Rafd{camera}_{person.number:02d}_{person.kind}_{person.sex}_{expression}_{gaze}"
    first = number == 0 and expression == "happy"
    if first and person.number == _PREFIXED:
        return f"s1_{name}.jpg"
    return name + (".png" if first and person.number == _AS_PNG else ".jpg")


def _photo(face: faces.PooledFace, camera: str, file: str) -> bytes:
    x, y, width, height = names.VIEWS[camera][1]
    center = ((x + width / 2) * WIDTH, (y + height / 2) * HEIGHT)
    image = faces.place(face, (WIDTH, HEIGHT), center, _FACE).image
    if file.endswith(".png"):
        return faces.png(image)
    return faces.jpeg(image, QUALITY)


def _write_irregular_files(folder: Path) -> None:
    """Writes duplicates of some images to a subfolder, and an image that is not RaFD's."""
    duplicated = sorted(folder.glob(f"Rafd*_{_DUPLICATED:02d}_*_happy_*.jpg"))
    for file in duplicated:
        faces.write_file(folder / FOLDER / file.name, file.read_bytes())
    faces.write_file(folder / "contact sheet.jpg", duplicated[0].read_bytes())
