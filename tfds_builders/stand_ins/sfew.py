"""Stand-in for SFEW 2.0: its file names and irregularities, with rendered faces.

Has aligned crops of 143 x 181 pixels from fictional movies: the class counts of Train and
Val, a Test without labels, and duplicates of some training images in a subfolder.
`tfds_builders/sfew/names.py` describes the set.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax import labels
from tfds_builders.sfew import names
from tfds_builders.stand_ins import faces

SEED = 2015  # the year of SFEW 2.0

TREES = {
    "train": Path("Train") / "Train_Aligned_Faces",
    "validation": Path("Val") / "Val_Aligned_Faces_new",
    "test": Path("Test") / "Test_Aligned_Faces",
}
_MOVIES = {"train": 40, "validation": 20, "test": 15}  # fewer than images of any class
_MIN_MOVIES = 3
_MIN_PER_CLASS = 4  # in each split: more than movies, so that each movie has every class
_RENDERED = 160  # pixels
_FACE = 118.0  # height of the face box, pixels
_DUPLICATES = 3  # of the first class of Train
_TITLES = ("Quiet", "Second", "Paper", "Northern", "Glass", "Long", "Winter", "Empty")
_NOUNS = ("Harbour", "Letter", "Summer", "Engine", "Garden")


def counts(scale: float) -> dict[str, dict[str, int]]:
    """Returns the number of images of each class in each split; Test has equal classes."""
    labeled = {
        split: {
            label: max(_MIN_PER_CLASS, round(count * scale)) for label, count in by_class.items()
        }
        for split, by_class in names.COUNTS.items()
    }
    per_class = max(1, round(names.FRAMES["test"] * scale / len(labels.SFEW)))
    return labeled | {"test": dict.fromkeys(labels.SFEW, per_class)}


def count_images(scale: float) -> int:
    """Number of images that `write` makes."""
    return sum(sum(by_class.values()) for by_class in counts(scale).values())


def listing(scale: float) -> list[tuple[str, str, int]]:
    """Returns (file below the root, emotion, person) of every image; a movie shows one person."""
    folders = {label: folder for folder, label in names.FOLDERS.items()}
    rows = []
    first = 0  # splits share no movie
    for split, by_class in counts(scale).items():
        movies = max(_MIN_MOVIES, round(_MOVIES[split] * scale))
        for label, count in by_class.items():
            folder = TREES[split] / folders[label] if split != "test" else TREES[split]
            for number in range(count):
                movie = first + number % movies
                name = f"{_stem(movie, label, number)}.png"
                rows.append(((folder / name).as_posix(), label, movie))
        first += movies
    return rows


def write(out: Path, scale: float) -> Iterator[int]:
    """Writes Train, Val and Test below `out`; skips existing images. Yields image counts."""
    rows = listing(scale)
    parts: dict[int, list[tuple[str, str]]] = collections.defaultdict(list)
    for file, label, person in rows:
        parts[person].append((file, label))
    jobs = [(out, person, part) for person, part in sorted(parts.items())]
    yield from faces.run_jobs(_write_person, jobs)
    for file, _, _ in rows[:_DUPLICATES]:
        inner = Path(file).relative_to(TREES["train"])
        duplicate = out / TREES["train"] / TREES["train"].name / inner
        faces.write_file(duplicate, (out / file).read_bytes())


def pack(out: Path) -> None:
    """Replaces the three folders by the archives as distributed."""
    for tree in TREES.values():
        if (out / tree).is_dir():
            target = out / f"{tree.name}.zip"
            faces.pack(out / tree, target, out / tree.parent)
            (out / tree.parent).rmdir()


def _stem(movie: int, label: str, number: int) -> str:
    """File stem as in the set: <title>_<nine digits of time>_<eight digits of frame>."""
    words = len(_TITLES)
    title = f"{_TITLES[movie % words]}{_NOUNS[movie // words % len(_NOUNS)]}"
    if movie >= words * len(_NOUNS):
        title += f"_{1 + movie // (words * len(_NOUNS))}"  # a sequel has a number
    time = 10 * (labels.SFEW.index(label) * 100_000 + number)
    return f"{title}_{time:09d}_{number % 20 + 1:08d}"


def _write_person(out: Path, person: int, part: Sequence[tuple[str, str]]) -> int:
    """Writes the missing images of a person; returns the number of all."""
    missing = [(file, label) for file, label in part if not (out / file).is_file()]
    spec = faces.make_spec(SEED, _RENDERED, labels.SFEW, (0.6, 0.7), wild=1.0)
    rendered = {face.label: face for face in faces.render(spec, person)} if missing else {}
    for file, label in missing:
        varied = faces.vary(rendered[label], file)
        center = (names.WIDTH / 2, names.HEIGHT / 2)
        crop = faces.place(varied, (names.WIDTH, names.HEIGHT), center, _FACE)
        faces.write_file(out / file, faces.png(np.ascontiguousarray(crop.image)))
    return len(part)
