"""RAF-DB as others passed it on: train/ and test/ with a folder for each class.

Numbered folders are in one of two orders, and nothing in such a copy says in which: the
user must. Reads no picture.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence

from fer_jax import errors, labels
from tfds_builders import crops, manual, sources
from tfds_builders.raf_db import names

ORDERS: dict[str, tuple[str, ...]] = {
    "folder_raf": labels.RAF_DB,
    "folder_affectnet": labels.AFFECTNET[:7],
}
"""Variant to the classes of its folders, first to last."""

_PLACE = re.compile(r"(?:.*/)?(train|test)/([^/]+)/([^/]+)\.[^./]+", re.IGNORECASE)
_MAX_CLASSES = 7


def pictures(source: sources.Source) -> list[str]:
    """The files that are pictures in a class folder of train or test."""
    files = sources.pictures_in(source, names.ENDINGS)
    return [file for file in files if _PLACE.fullmatch(file)]


def index(source: sources.Source, variant: str) -> tuple[list[manual.Record], list[crops.Drop]]:
    """All pictures, train first; drops are second copies.

    Args:
      source: A copy with class folders.
      variant: One of `ORDERS`, or another where the folders have names.

    Raises:
      errors.UserError: Unknown or missing folders; numbers, and no order was chosen; an order
        that the numbers of pictures contradict.
    """
    places = {file: _place(file) for file in pictures(source)}
    folders = sorted({folder for _, folder, _ in places.values()})
    order = _order(folders, variant, source, places)
    by_id = {file: f"{split}_{stem}" for file, (split, _, stem) in places.items()}
    first, drops = manual.drop_copies(source, list(places), by_id.__getitem__)
    records = [_record(one, file, order, places[file]) for one, file in first.items()]
    records.sort(key=lambda one: (one.split != "train", one.id))
    _refuse_empty(records, source)
    _refuse_contradiction(records, order, variant, source)
    return records, drops


def _place(file: str) -> tuple[str, str, str]:
    """Split, folder and what the picture is called in its split."""
    match = _PLACE.fullmatch(file)
    assert match is not None  # only placed pictures are asked for
    split, folder, stem = match[1].lower(), match[2].lower(), match[3].lower()
    stem = stem.removesuffix("_aligned").removeprefix(f"{split}_")
    return split, folder, stem


def _record(
    one: str, file: str, order: Mapping[str, str], place: tuple[str, str, str]
) -> manual.Record:
    unknown = names.UNKNOWN
    return manual.Record(
        id=one,
        file=file,
        label=order[place[1]],
        subject="",
        split=place[0],
        extras={"gender": unknown, "race": unknown, "age": unknown},
    )


def _order(
    folders: Sequence[str],
    variant: str,
    source: sources.Source,
    places: Mapping[str, tuple[str, str, str]],
) -> dict[str, str]:
    """Folder name to emotion."""
    named = {folder: label for folder in folders if (label := labels.named(folder))}
    if len(named) == len(folders) and set(named.values()) == set(labels.RAF_DB):
        return named
    numbers = _numbers(folders)
    if numbers is None:
        raise errors.UserError(
            f"expected a folder for each of RAF-DB's seven classes in train and test of "
            f"{source.path}, named (surprise ...) or numbered 1 to 7 or 0 to 6, found "
            f"{manual.some(folders)}. Move other folders out, and bring missing ones back."
        )
    if variant not in ORDERS:
        raise _must_ask(numbers, source, places)
    return dict(zip(numbers, ORDERS[variant], strict=True))


def _numbers(folders: Sequence[str]) -> list[str] | None:
    """The folders in order of their numbers, if they are 0 to 6 or 1 to 7."""
    for first in (0, 1):
        numbers = [str(number) for number in range(first, first + _MAX_CLASSES)]
        if list(folders) == numbers:
            return numbers
    return None


def _must_ask(
    numbers: Sequence[str],
    source: sources.Source,
    places: Mapping[str, tuple[str, str, str]],
) -> errors.UserError:
    sizes = collections.Counter(folder for split, folder, _ in places.values() if split == "train")
    said = ", ".join(f"{folder}: {sizes[folder]:,}" for folder in numbers)
    meant = {
        variant: ", ".join(f"{n} {label}" for n, label in zip(numbers, order, strict=True))
        for variant, order in ORDERS.items()
    }
    whole = ", ".join(f"{label} {count:,}" for label, count in names.COUNTS["train"].items())
    return errors.UserError(
        f"expected to be told which class each folder of {source.path} is, found only numbers. "
        "Such copies come in two orders, and guessing wrong trains on wrong labels:\n"
        f"  --config folder_raf        {meant['folder_raf']}\n"
        f"  --config folder_affectnet  {meant['folder_affectnet']}\n"
        "(in training: --config.data.config=...). Look at pictures of two or three folders, or "
        f"compare: your train has {said}; a whole RAF-DB has {whole}."
    )


def _refuse_empty(records: Sequence[manual.Record], source: sources.Source) -> None:
    there = {(one.split, one.label) for one in records}
    empty = [
        f"{label} in {split}"
        for split in names.SPLITS
        for label in labels.RAF_DB
        if (split, label) not in there
    ]
    if empty:
        raise errors.UserError(
            f"expected pictures of every class in train and in test of {source.path}, found none "
            f"of {manual.some(empty)}. The copy is incomplete: get it again."
        )


def _refuse_contradiction(
    records: Sequence[manual.Record],
    order: Mapping[str, str],
    variant: str,
    source: sources.Source,
) -> None:
    """A whole copy gives itself away by its numbers where the wrong order was chosen."""
    if variant not in ORDERS or not all(folder.isdecimal() for folder in order):
        return
    counted = collections.Counter(one.label for one in records if one.split == "train")
    for other, classes in ORDERS.items():
        swapped = {
            right: counted[wrong] for wrong, right in zip(ORDERS[variant], classes, strict=True)
        }
        if other != variant and swapped == names.COUNTS["train"]:
            raise errors.UserError(
                f"expected {names.COUNTS['train'][labels.HAPPINESS]:,} pictures of happiness in "
                f"train of {source.path}, found {counted[labels.HAPPINESS]:,} with {variant}; with "
                f"{other} the numbers of all seven classes are RAF-DB's. Use --config {other}."
            )
