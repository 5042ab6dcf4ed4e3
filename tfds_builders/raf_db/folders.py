"""Indexes copies of RAF-DB in class folders, or in split folders with train_labels.csv.

Such copies number the classes in one of two orders. Nothing in a copy identifies the order, so
the user chooses it by the config.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from fer_jax import errors, labels
from tfds_builders import copies, crops, manual, protocols, sources, splits, tables
from tfds_builders.raf_db import names

ORDERS: dict[str, tuple[str, ...]] = {
    "folder_raf": labels.RAF_DB,
    "folder_affectnet": labels.AFFECTNET[:7],
}
"""Config to the classes of its numbered folders, in order."""

UNLISTED = "not in the label table"
_TABLE = re.compile(r"(?:.*/)?([^/]+)_labels\.csv", re.IGNORECASE)
_Path = tuple[str, str, str]  # split, class folder or label, name of the image in its split


def locate(source: sources.Source) -> dict[str, _Path]:
    """The location of each image below split folders; the label is "" if no table has it.

    Images directly in a split folder count only if there are label tables.
    """
    files = sources.files_with_suffix(source, names.ENDINGS)
    parents = {file: PurePosixPath(file).parts[:-1] for file in files}
    split_of = splits.by_folder({part for parts in parents.values() for part in parts[-2:]})
    listed = _listed(source)
    paths = {}
    for file, folders in parents.items():
        stem = PurePosixPath(file).stem.lower()
        if len(folders) > 1 and folders[-2] in split_of and folders[-1] not in split_of:
            split, label = split_of[folders[-2]], folders[-1].lower()
        elif folders and folders[-1] in split_of and listed:
            split = split_of[folders[-1]]
            label = listed.get((split, stem.removesuffix("_aligned")), "")
        else:
            continue
        paths[file] = (split, label, stem.removesuffix("_aligned").removeprefix(f"{split}_"))
    return paths


def _listed(source: sources.Source) -> dict[tuple[str, str], str]:
    """Split and stem of the images in train_labels.csv, test_labels.csv ..., to label."""
    tables_of = {match[1]: match[0] for name in source.sizes() if (match := _TABLE.fullmatch(name))}
    return {
        (split, PurePosixPath(image).stem.lower().removesuffix("_aligned")): label.lower()
        for word, split in splits.by_folder(tables_of).items()
        for _, (image, label) in tables.rows(source, tables_of[word], ("image", "label"))
    }


def index(source: sources.Source, variant: str) -> tuple[list[manual.Record], list[crops.Drop]]:
    """Records of all images, train first; drops are duplicates.

    Args:
      source: a copy with class folders or label tables.
      variant: one of `ORDERS`; any other config if the folders are named.

    Raises:
      errors.UserError: Folders are unknown or missing; folders are numbered and `variant`
        is not one of `ORDERS`; the number of images contradicts the chosen order.
    """
    located = locate(source)
    paths = {file: path for file, path in located.items() if path[1]}
    unlisted = [crops.Drop(file, file, UNLISTED, "") for file in located if file not in paths]
    folders = sorted({folder for _, folder, _ in paths.values()})
    classes = _classes(folders, variant, source, paths)
    pairs = [(f"{split}_{stem}", file) for file, (split, _, stem) in paths.items()]
    first, drops = copies.first_by_id(source, pairs)
    records = [_record(image_id, file, classes, paths[file]) for image_id, file in first.items()]
    records.sort(key=lambda record: (protocols.SPLITS.index(record.split), record.id))
    copies.check_classes(records, labels.RAF_DB, source, names.SPLITS)
    _check_order(records, classes, variant, source)
    return records, drops + unlisted


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
