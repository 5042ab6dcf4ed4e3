"""Parses a user's folder of images: splits, classes and subjects.

`<root>/<split>/<class>/*` or `<root>/<class>/*`. Ambiguous layouts are errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fer_jax import errors, labels
from tfds_builders import manual, protocols, sources, tables

SUBJECTS = "subjects.csv"
SPLITS: dict[str, str] = {
    "train": protocols.TRAIN,
    "training": protocols.TRAIN,
    "val": protocols.VALIDATION,
    "valid": protocols.VALIDATION,
    "validation": protocols.VALIDATION,
    "test": protocols.TEST,
    "testing": protocols.TEST,
}


@dataclasses.dataclass(frozen=True)
class Tree:
    """The layout of a folder of images.

    Attributes:
      root: the folder that contains the splits or classes: "" or a path ending in "/".
      files: paths of all images, relative to `root`.
      others: paths of files that are not images, relative to the source.
      classes: name of the class folder to class, in index order.
      splits: the splits; empty if there are no split folders.
    """

    root: str
    files: tuple[str, ...]
    others: tuple[str, ...]
    classes: Mapping[str, str]
    splits: tuple[str, ...]

    def split_of(self, file: str) -> str:
        """The stored split of an image (a path relative to `root`)."""
        return SPLITS[file.split("/")[0].lower()] if self.splits else protocols.STORED

    def label_of(self, file: str) -> str:
        """The class of an image (a path relative to `root`)."""
        return self.classes[PurePosixPath(file).parent.name]


def parse(source: sources.Source) -> Tree:
    """Parses the file names of a source.

    Raises:
      errors.UserError: There are images outside class folders, fewer than two classes,
        different classes in the splits, a class without images, or no train split.
    """
    visible = [name for name in source.sizes() if not _is_hidden(name)]
    images = [name for name in visible if name.lower().endswith(sources.IMAGE_SUFFIXES)]
    root = _root(images)
    used = {*images, root + SUBJECTS}
    others = [name for name in visible if name.startswith(root) and name not in used]
    files = [name.removeprefix(root) for name in images]
    has_splits = any(map(_is_in_a_split, files))
    _check_depth(source, root, files, has_splits=has_splits)
    splits = tuple(sorted({SPLITS[file.split("/")[0].lower()] for file in files if has_splits}))
    classes = _classes(source, files, has_splits=has_splits)
    _check_empty(source, root, classes, has_splits=has_splits)
    if splits and protocols.TRAIN not in splits:
        raise errors.UserError(
            f"expected a folder train beside {', '.join(splits)} in {source.path}, found none."
        )
    return Tree(root, tuple(files), tuple(others), classes, splits)


def subjects(source: sources.Source, tree: Tree) -> dict[str, str]:
    """Image (a path relative to `root`) to subject; empty without `subjects.csv`.

    Raises:
      errors.UserError: The table lacks an image, or contains an unknown file.
    """
    table = tree.root + SUBJECTS
    if table not in source.sizes():
        return {}
    by_file = {
        file.replace("\\", "/").removeprefix("./"): subject
        for _, (file, subject) in tables.rows(source, table, ("file", "subject"))
    }
    missing = [file for file in tree.files if not by_file.get(file)]
    unknown = sorted(set(by_file) - set(tree.files))
    if missing or unknown:
        wrong = (
            f"none for {manual.some(missing)}"
            if missing
            else f"unknown files {manual.some(unknown)}"
        )
        raise errors.UserError(
            f"expected one subject for each image in {table} in {source.path}, with file names "
            f"such as {tree.files[0]}; found {wrong}. Complete the table, or remove it."
        )
    return by_file


def _root(files: Iterable[str]) -> str:
    """The folder that contains the splits or classes; archives often add an outer folder."""
    folders = [PurePosixPath(file).parts[:-1] for file in files]
    common = _common(folders)
    # A single class folder, or a single split, is not the root.
    while common and all(len(folder) == len(common) for folder in folders):
        common = common[:-1]
    return "".join(f"{part}/" for part in common)


def _common(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if not folders:
        return ()
    first, last = min(folders), max(folders)
    equal = [part == other for part, other in zip(first, last, strict=False)]
    return first[: [*equal, False].index(False)]


def _is_in_a_split(file: str) -> bool:
    return file.count("/") == 2 and file.split("/")[0].lower() in SPLITS


def _is_in_a_class(file: str) -> bool:
    return file.count("/") == 1


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _check_depth(source: sources.Source, root: str, files: list[str], *, has_splits: bool) -> None:
    layout = "<split>/<class>/<image>" if has_splits else "<class>/<image>"
    if not files:
        raise errors.UserError(
            f"expected images ({', '.join(sources.IMAGE_SUFFIXES)}) in class folders below "
            f"{source.path}, found {manual.describe_folder(source.path)}."
        )
    fits = _is_in_a_split if has_splits else _is_in_a_class
    wrong = [file for file in files if not fits(file)]
    if wrong:
        raise errors.UserError(
            f"expected every image below {source.path}/{root} as {layout}, found "
            f"{len(wrong):,} elsewhere: {manual.some(wrong)}. Move each to its class folder."
        )


def _classes(source: sources.Source, files: list[str], *, has_splits: bool) -> dict[str, str]:
    by_split: dict[str, set[str]] = {}
    for file in files:
        split = file.split("/")[0] if has_splits else ""
        by_split.setdefault(split, set()).add(PurePosixPath(file).parent.name)
    folders = set().union(*by_split.values())
    for split, present in by_split.items():
        if present != folders:
            raise errors.UserError(
                f"expected the same class folders in every split of {source.path}, found no "
                f"images of {', '.join(sorted(folders - present))} in {split}. Use the same names "
                "in all splits, or add images."
            )
    return _name_classes(source, sorted(folders))


def _name_classes(source: sources.Source, folders: list[str]) -> dict[str, str]:
    """Folder to class: the emotions if every folder is one, else the folder names."""
    if len(folders) < 2:
        raise errors.UserError(
            f"expected at least two class folders in {source.path}, found {', '.join(folders)}."
        )
    named = {folder: labels.named(folder) for folder in folders}
    emotions = {folder: label for folder, label in named.items() if label is not None}
    if len(emotions) < len(folders):
        return {folder: folder for folder in folders}
    if len(set(emotions.values())) < len(folders):
        labeled = list(emotions.values())
        same = [folder for folder in folders if labeled.count(emotions[folder]) > 1]
        raise errors.UserError(
            f"expected one folder for each emotion in {source.path}, found {', '.join(same)} "
            "for one emotion. Merge them."
        )
    return dict(sorted(emotions.items(), key=lambda pair: labels.EMOTIONS.index(pair[1])))


def _check_empty(
    source: sources.Source, root: str, classes: Mapping[str, str], *, has_splits: bool
) -> None:
    """Checks for class folders without images, which file names alone do not show."""
    base = source.path / root
    if not base.is_dir():
        return
    parents = [base]
    if has_splits:
        parents = [folder for folder in _folders(base) if folder.name.lower() in SPLITS]
    for parent in parents:
        empty = [folder.name for folder in _folders(parent) if folder.name not in classes]
        if empty:
            raise errors.UserError(
                f"expected images in every class folder of {parent}, found none in "
                f"{manual.some(sorted(empty))}. Add images to these folders, or remove them."
            )


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
