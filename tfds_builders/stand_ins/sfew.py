"""A stand-in for SFEW 2.0: its exact files, with rendered faces, and its traps.

Crops of 143 x 181 with the set's counts of every class in Train and Val, from invented
movies, and a Test without labels. Trap: some of Train a second time, one folder deeper.
What the set looks like is in names.py; the command is tfds_builders/stand_ins/write.py.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from tfds_builders.sfew import names
from tfds_builders.stand_ins import faces as stand_in_faces
from tfds_builders.synthface import Spec

SEED = 2015  # the year of SFEW 2.0; no other set here has these people

TREES = {
    "train": Path("Train") / "Train_Aligned_Faces",
    "validation": Path("Val") / "Val_Aligned_Faces_new",
    "test": Path("Test") / "Test_Aligned_Faces",
}
_MOVIES = {"train": 40, "validation": 20, "test": 15}  # fewer than any class has pictures
_FEWEST_MOVIES = 3
_FEWEST = 4  # of a class in a split: more than there are movies, so that each has every class
_RENDERED = 160  # pixels
_FACE = 118.0  # pixels, brows to chin
_TWICE = 3  # of the first class of Train
_TITLES = ("Quiet", "Second", "Paper", "Northern", "Glass", "Long", "Winter", "Empty")
_NOUNS = ("Harbour", "Letter", "Summer", "Engine", "Garden")


def counts(scale: float) -> dict[str, dict[str, int]]:
    """Faces of each class in each split at `scale` (0 to 1); Test's are not told apart."""
    found = {
        split: {label: max(_FEWEST, round(count * scale)) for label, count in of_class.items()}
        for split, of_class in names.COUNTS.items()
    }
    tests = max(1, round(names.FRAMES["test"] * scale / len(labels.SFEW)))
    return found | {"test": dict.fromkeys(labels.SFEW, tests)}


def count_images(scale: float) -> int:
    """How many pictures `write` makes."""
    return sum(sum(of_class.values()) for of_class in counts(scale).values())


def listing(scale: float) -> list[tuple[str, str, int]]:
    """File below the root, emotion and person of every picture."""
    folders = {label: folder for folder, label in names.FOLDERS.items()}
    found = []
    first = 0  # movies of one split are not in another
    for split, of_class in counts(scale).items():
        number = max(_FEWEST_MOVIES, round(_MOVIES[split] * scale))
        for label, count in of_class.items():
            folder = TREES[split] / folders[label] if split != "test" else TREES[split]
            for one in range(count):
                movie = first + one % number
                name = f"{_file_name(movie, label, one)}.png"
                found.append(((folder / name).as_posix(), label, movie))
        first += number
    return found


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes Train, Val and Test below `out`; what an earlier run finished is kept.

    Yields:
      Numbers of pictures, as they are finished.
    """
    listed = listing(scale)
    parts: dict[int, list[tuple[str, str]]] = collections.defaultdict(list)
    for file, label, person in listed:
        parts[person].append((file, label))
    jobs = [(out, person, part) for person, part in sorted(parts.items())]
    yield from stand_in_faces.run_jobs(_write_person, jobs)
    for file, _, _ in listed[:_TWICE]:
        inner = Path(file).relative_to(TREES["train"])
        again = out / TREES["train"] / TREES["train"].name / inner
        stand_in_faces.write_file(again, (out / file).read_bytes())


def pack(out: Path) -> None:
    """Leaves the three archives as they are sent, instead of their trees."""
    for tree in TREES.values():
        if (out / tree).is_dir():
            target = out / f"{tree.name}.zip"
            stand_in_faces.pack(out / tree, target, out / tree.parent)
            (out / tree.parent).rmdir()


def _file_name(movie: int, label: str, one: int) -> str:
    """Title_<nine digits of time>_<eight of the frame>, as in the set."""
    words = len(_TITLES)
    title = f"{_TITLES[movie % words]}{_NOUNS[movie // words % len(_NOUNS)]}"
    if movie >= words * len(_NOUNS):
        title += f"_{1 + movie // (words * len(_NOUNS))}"  # sequels have a number of their own
    return f"{title}_{10 * (labels.SFEW.index(label) * 100_000 + one):09d}_{one % 20 + 1:08d}"


def _spec() -> Spec:
    return Spec(
        "sfew_stand_in",
        seed=SEED,
        subjects=0,
        size=_RENDERED,
        expressions=labels.SFEW,
        wild=1.0,
        fill=(0.6, 0.7),
        supersample=1,
    )


def _write_person(out: Path, person: int, part: Sequence[tuple[str, str]]) -> int:
    """The pictures of one movie, which has one actor, that are not there yet."""
    todo = [one for one in part if not (out / one[0]).is_file()]
    rendered = {one.label: one for one in stand_in_faces.render(_spec(), person)} if todo else {}
    for file, label in todo:
        varied = stand_in_faces.vary(rendered[label], file)
        center = (names.WIDTH / 2, names.HEIGHT / 2)
        crop = stand_in_faces.place(varied, (names.WIDTH, names.HEIGHT), center, _FACE)
        stand_in_faces.write_file(out / file, stand_in_faces.png(np.ascontiguousarray(crop.image)))
    return len(part)
