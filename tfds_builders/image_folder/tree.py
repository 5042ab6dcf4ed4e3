"""What a tree of one's own pictures says: splits, classes, and who is in a picture.

`<root>/<split>/<class>/*` or `<root>/<class>/*`. It reads names and `subjects.csv`, no
picture, and refuses what it would have to guess.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fer_jax import errors, labels
from tfds_builders import manual, pictures, protocols, sources, tables

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
    """A tree that has been understood.

    Attributes:
      root: The folder in the copy that holds splits or classes, "" or ending in "/".
      files: Every picture, by its name below `root`.
      others: Files that are no pictures by their names, as they are called in the copy.
      classes: A class folder's name and the class that it stands for, in index order.
      splits: The splits that there are; empty where class folders lie in the root.
    """

    root: str
    files: tuple[str, ...]
    others: tuple[str, ...]
    classes: Mapping[str, str]
    splits: tuple[str, ...]

    def split_of(self, file: str) -> str:
        """The stored split of a picture (a name below `root`)."""
        return SPLITS[file.split("/")[0].lower()] if self.splits else protocols.STORED

    def label_of(self, file: str) -> str:
        """The class of a picture (a name below `root`)."""
        return self.classes[PurePosixPath(file).parent.name]


def understand(source: sources.Source) -> Tree:
    """Reads the tree's names.

    Raises:
      errors.UserError: Pictures outside class folders, fewer than two classes, classes that
        differ between splits, a class without pictures, no train split.
    """
    visible = [name for name in source.sizes() if not _is_hidden(name)]
    found = [name for name in visible if name.lower().endswith(pictures.ENDINGS)]
    root = _root(found)
    kept = {*found, root + SUBJECTS}
    others = [one for one in visible if one.startswith(root) and one not in kept]
    files = [name.removeprefix(root) for name in found]
    has_splits = any(map(_is_in_a_split, files))
    _check_places(source, root, files, has_splits=has_splits)
    splits = tuple(sorted({SPLITS[file.split("/")[0].lower()] for file in files if has_splits}))
    classes = _classes(source, files, has_splits=has_splits)
    _check_empty(source, root, classes, has_splits=has_splits)
    if splits and protocols.TRAIN not in splits:
        raise errors.UserError(
            f"expected a folder train beside {', '.join(splits)} in {source.path}, found none."
        )
    return Tree(root, tuple(files), tuple(others), classes, splits)


def subjects(source: sources.Source, tree: Tree) -> dict[str, str]:
    """Who is in each picture, by its name below the root; empty without `subjects.csv`.

    Raises:
      errors.UserError: The table lacks a picture or names one that is not there.
    """
    table = tree.root + SUBJECTS
    if table not in source.sizes():
        return {}
    who = {
        file.replace("\\", "/").removeprefix("./"): subject
        for _, (file, subject) in tables.rows(source, table, ("file", "subject"))
    }
    missing = [file for file in tree.files if not who.get(file)]
    unknown = sorted(set(who) - set(tree.files))
    if missing or unknown:
        wrong = (
            f"none for {manual.some(missing)}"
            if missing
            else f"unknown files {manual.some(unknown)}"
        )
        raise errors.UserError(
            f"expected one subject for each picture in {table} in {source.path}, files named as in "
            f"{tree.files[0]}; found {wrong}. Complete the table, or remove it."
        )
    return who


def _root(found: Iterable[str]) -> str:
    """The deepest folder that holds everything: an archive often has a folder of its own."""
    folders = [PurePosixPath(name).parts[:-1] for name in found]
    common = _common(folders)
    # One class, or one split, is not a folder around everything.
    while common and all(len(folder) == len(common) for folder in folders):
        common = common[:-1]
    return "".join(f"{part}/" for part in common)


def _common(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if not folders:
        return ()
    first, last = min(folders), max(folders)
    same = [one == other for one, other in zip(first, last, strict=False)]
    return first[: [*same, False].index(False)]


def _is_in_a_split(file: str) -> bool:
    return file.count("/") == 2 and file.split("/")[0].lower() in SPLITS


def _is_in_a_class(file: str) -> bool:
    return file.count("/") == 1


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _check_places(source: sources.Source, root: str, files: list[str], *, has_splits: bool) -> None:
    shape = "<split>/<class>/<picture>" if has_splits else "<class>/<picture>"
    if not files:
        raise errors.UserError(
            f"expected pictures ({', '.join(pictures.ENDINGS)}) in class folders below "
            f"{source.path}, found {manual.what_is_there(source.path)}."
        )
    fits = _is_in_a_split if has_splits else _is_in_a_class
    wrong = [file for file in files if not fits(file)]
    if wrong:
        raise errors.UserError(
            f"expected every picture below {source.path}/{root} as {shape}, found "
            f"{len(wrong):,} elsewhere: {manual.some(wrong)}. Put each into its class's folder."
        )


def _classes(source: sources.Source, files: list[str], *, has_splits: bool) -> dict[str, str]:
    by_split: dict[str, set[str]] = {}
    for file in files:
        split = file.split("/")[0] if has_splits else ""
        by_split.setdefault(split, set()).add(PurePosixPath(file).parent.name)
    everywhere = set().union(*by_split.values())
    for split, some in by_split.items():
        if some != everywhere:
            raise errors.UserError(
                f"expected the same class folders in every split of {source.path}, found no "
                f"pictures of {', '.join(sorted(everywhere - some))} in {split}. Give the folders "
                "one name in all splits, or fill them."
            )
    return _name_classes(source, sorted(everywhere))


def _name_classes(source: sources.Source, folders: list[str]) -> dict[str, str]:
    """Standard names where every folder is an emotion, else the folders' own."""
    if len(folders) < 2:
        raise errors.UserError(
            f"expected at least two class folders in {source.path}, found {', '.join(folders)}."
        )
    named = {folder: labels.named(folder) for folder in folders}
    emotions = {folder: label for folder, label in named.items() if label is not None}
    if len(emotions) < len(folders):
        return {folder: folder for folder in folders}
    if len(set(emotions.values())) < len(folders):
        twice = [one for one in folders if list(emotions.values()).count(emotions[one]) > 1]
        raise errors.UserError(
            f"expected one folder for each emotion in {source.path}, found {', '.join(twice)}, "
            "which mean the same. Merge them."
        )
    return dict(sorted(emotions.items(), key=lambda pair: labels.EMOTIONS.index(pair[1])))


def _check_empty(
    source: sources.Source, root: str, classes: Mapping[str, str], *, has_splits: bool
) -> None:
    """Folders without pictures do not show among the names; on disk they can be seen."""
    base = source.path / root
    if not base.is_dir():
        return
    parents = (
        [one for one in _folders(base) if one.name.lower() in SPLITS] if has_splits else [base]
    )
    for parent in parents:
        empty = [one.name for one in _folders(parent) if one.name not in classes]
        if empty:
            raise errors.UserError(
                f"expected pictures in every class folder of {parent}, found none in "
                f"{manual.some(sorted(empty))}. Fill these folders or remove them."
            )


def _folders(parent: Path) -> list[Path]:
    return [one for one in parent.iterdir() if one.is_dir() and not one.name.startswith(".")]
