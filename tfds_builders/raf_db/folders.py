"""Indexes copies of RAF-DB in class folders: train/<class>/ and test/<class>/.

Such copies number the class folders in one of two orders. Nothing in a copy identifies the
order, so the user chooses it by the config.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence

from fer_jax import errors, labels
from tfds_builders import copies, crops, manual, sources
from tfds_builders.raf_db import names

ORDERS: dict[str, tuple[str, ...]] = {
    "folder_raf": labels.RAF_DB,
    "folder_affectnet": labels.AFFECTNET[:7],
}
"""Config to the classes of its numbered folders, in order."""

_PATH = re.compile(r"(?:.*/)?(train|test)/([^/]+)/([^/]+)\.[^./]+", re.IGNORECASE)
_Path = tuple[str, str, str]  # split, class folder, name of the image in its split


def images(source: sources.Source) -> list[str]:
    """The images in class folders of train or test."""
    files = sources.files_with_suffix(source, names.ENDINGS)
    return [file for file in files if _PATH.fullmatch(file)]


def index(source: sources.Source, variant: str) -> tuple[list[manual.Record], list[crops.Drop]]:
    """Records of all images, train first; drops are duplicates.

    Args:
      source: a copy with class folders.
      variant: one of `ORDERS`; any other config if the folders are named.

    Raises:
      errors.UserError: Folders are unknown or missing; folders are numbered and `variant`
        is not one of `ORDERS`; the number of images contradicts the chosen order.
    """
    paths = {file: _parse(file) for file in images(source)}
    folders = sorted({folder for _, folder, _ in paths.values()})
    classes = _classes(folders, variant, source, paths)
    pairs = [(f"{split}_{stem}", file) for file, (split, _, stem) in paths.items()]
    first, drops = copies.first_by_id(source, pairs)
    records = [_record(image_id, file, classes, paths[file]) for image_id, file in first.items()]
    records.sort(key=lambda record: (record.split != "train", record.id))
    copies.check_classes(records, labels.RAF_DB, source, names.SPLITS)
    _check_order(records, classes, variant, source)
    return records, drops


def _parse(file: str) -> _Path:
    match = _PATH.fullmatch(file)
    assert match is not None  # called for the images of `images` only
    split, folder, stem = match[1].lower(), match[2].lower(), match[3].lower()
    stem = stem.removesuffix("_aligned").removeprefix(f"{split}_")
    return split, folder, stem


def _record(image_id: str, file: str, classes: Mapping[str, str], path: _Path) -> manual.Record:
    split, folder, _ = path
    return manual.Record(
        id=image_id,
        file=file,
        label=classes[folder],
        subject="",
        split=split,
        extras=dict.fromkeys(("gender", "race", "age"), names.UNKNOWN),
    )


def _classes(
    folders: Sequence[str], variant: str, source: sources.Source, paths: Mapping[str, _Path]
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
            f"{manual.some(folders)}. Move other folders out, and add missing ones."
        )
    if variant not in ORDERS:
        raise _unknown_order(numbers, source, paths)
    return dict(zip(numbers, ORDERS[variant], strict=True))


def _numbers(folders: Sequence[str]) -> list[str] | None:
    """The folders in numeric order if they are 0 to 6 or 1 to 7; None otherwise."""
    for first in (0, 1):
        numbers = [str(number) for number in range(first, first + len(labels.RAF_DB))]
        if list(folders) == numbers:
            return numbers
    return None


def _unknown_order(
    numbers: Sequence[str], source: sources.Source, paths: Mapping[str, _Path]
) -> errors.UserError:
    """The error that asks the user for the order of numbered folders."""
    sizes = collections.Counter(folder for split, folder, _ in paths.values() if split == "train")
    actual = ", ".join(f"{folder}: {sizes[folder]:,}" for folder in numbers)
    orders = {
        variant: ", ".join(f"{n} {label}" for n, label in zip(numbers, order, strict=True))
        for variant, order in ORDERS.items()
    }
    complete = ", ".join(f"{label} {count:,}" for label, count in names.COUNTS["train"].items())
    return errors.UserError(
        f"expected class names or a chosen order for the folders of {source.path}, found only "
        "numbers. Such copies exist in two orders, and the wrong one gives wrong labels. Choose:\n"
        f"  --config folder_raf        {orders['folder_raf']}\n"
        f"  --config folder_affectnet  {orders['folder_affectnet']}\n"
        "(in training: --config.data.config=...). Look at the images in two or three folders, or "
        f"compare: your train has {actual}; a complete RAF-DB has {complete}."
    )


def _check_order(
    records: Sequence[manual.Record],
    classes: Mapping[str, str],
    variant: str,
    source: sources.Source,
) -> None:
    """Raises a `UserError` if the other order gives a complete copy's number of each class."""
    if variant not in ORDERS or not all(folder.isdecimal() for folder in classes):
        return
    counts = collections.Counter(record.label for record in records if record.split == "train")
    for other, order in ORDERS.items():
        swapped = {
            right: counts[wrong] for wrong, right in zip(ORDERS[variant], order, strict=True)
        }
        if other != variant and swapped == names.COUNTS["train"]:
            raise errors.UserError(
                f"expected {names.COUNTS['train'][labels.HAPPINESS]:,} images of happiness in "
                f"train of {source.path}, found {counts[labels.HAPPINESS]:,} with {variant}. With "
                f"{other}, the numbers of all seven classes are RAF-DB's: use --config {other}."
            )
