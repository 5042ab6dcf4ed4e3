"""Parses a user's folder of images: splits, classes and subjects.

`<root>/<split>/<class>/*`, `<root>/<person>/<class>/*` or `<root>/<class>/*`. Ambiguous layouts are
errors; `layouts` tells how to convert others.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fer_jax import errors, labels
from tfds_builders import manual, protocols, sources, splits, tables
from tfds_builders.image_folder import layouts
from tfds_builders.stand_in_mark import STAND_IN_FILE

SUBJECTS = "subjects.csv"
_WHERE = (
    "Move each to its class folder; split folders are named train, val, test or alike (Training, "
    "dev, PublicTest, test_set ...)."
)


@dataclasses.dataclass(frozen=True)
class Tree:
    """The layout of a folder of images.

    Attributes:
      root: the folder that contains the splits or classes: "" or a path ending in "/".
      files: paths of all images, relative to `root`.
      others: paths of files that are not images, relative to the source.
      classes: name of the class folder to class, in index order.
      splits: split folder to split; empty if there are no split folders.
      people: folders of people, which contain the class folders; empty if there are none.
      table: path of the table of subjects, relative to the source; "" if there is none.
    """

    root: str
    files: tuple[str, ...]
    others: tuple[str, ...]
    classes: Mapping[str, str]
    splits: Mapping[str, str]
    people: tuple[str, ...]
    table: str

    def split_of(self, file: str) -> str:
        """The stored split of an image (a path relative to `root`)."""
        return self.splits[file.split("/")[0]] if self.splits else protocols.STORED

    def label_of(self, file: str) -> str:
        """The class of an image (a path relative to `root`)."""
        return self.classes[PurePosixPath(file).parent.name]


def parse(source: sources.Source) -> Tree:
    """Parses the file names of a source.

    Raises:
      errors.UserError: There are images outside class folders, fewer than two classes,
        different classes in the splits, a class or split without images, classes named by
        numbers, or no train split.
    """
    visible = [name for name in source.sizes() if not sources.is_hidden(name)]
    images = [name for name in visible if name.lower().endswith(sources.IMAGE_SUFFIXES)]
    if advice := layouts.yolo_advice(source):
        raise errors.UserError(
            f"expected a folder for each class in {source.path}, found a YOLO tree, with labels in "
            f"text files. {advice}"
        )
    root = _root(images)
    table = _subject_table(source, visible)
    used = {*images, table}
    others = tuple(
        name for name in visible if name not in used and PurePosixPath(name).name != STAND_IN_FILE
    )
    files = [name.removeprefix(root) for name in images]
    first = splits.by_folder({file.split("/")[0] for file in files if "/" in file})
    in_splits = [file for file in files if file.count("/") == 2 and file.split("/")[0] in first]
    people = () if first else _people(files)
    if not people:
        _check_depth(source, root, files, in_splits)
    split_of = first if in_splits else {}
    classes = _classes(source, files, has_splits=bool(split_of))
    if not people:  # a person need not show every class
        _check_empty(source, root, classes, split_of, others)
    if split_of and protocols.TRAIN not in split_of.values():
        raise errors.UserError(
            f"expected a folder train beside {', '.join(split_of)} in {source.path}, found none. "
            f"To split the images of {', '.join(split_of)} themselves, give that folder."
        )
    return Tree(root, tuple(files), others, classes, split_of, people, table)


def subjects(source: sources.Source, tree: Tree) -> dict[str, str]:
    """Image (a path relative to `root`) to subject, by the table of subjects or the folders.

    Empty if there is neither.

    Raises:
      errors.UserError: The table lacks an image, or contains an unknown file.
    """
    if not tree.table:
        return {file: file.split("/")[0] for file in tree.files} if tree.people else {}
    known = {_composed(file): file for file in tree.files}
    by_file: dict[str, str] = {}
    for _, (name, subject) in tables.own_rows(source, tree.table, ("file", "subject")):
        file = _composed(name.replace("\\", "/").removeprefix("./").removeprefix(tree.root))
        by_file[known.get(file, file)] = subject
    missing = [file for file in tree.files if not by_file.get(file)]
    unknown = sorted(set(by_file) - set(tree.files))
    if missing or unknown:
        wrong = (
            f"none for {manual.some(missing)}"
            if missing
            else f"unknown files {manual.some(unknown)}"
        )
        raise errors.UserError(
            f"expected one subject for each image in {tree.table} in {source.path}, with file "
            f"names such as {tree.files[0]}; found {wrong}. Complete the table, or remove it."
        )
    return by_file


def _people(files: Sequence[str]) -> tuple[str, ...]:
    """Returns the folders of people if every image is `<person>/<class>/<image>`, else ().

    Classes recur from person to person; an emotion may be that of one person. Folders of emotions
    are no people, and the names of splits no classes.
    """
    parts = [file.split("/") for file in files]
    if not all(len(part) == 3 for part in parts):
        return ()
    people = {part[0] for part in parts}
    showing: dict[str, set[str]] = {}
    for person, label, _ in parts:
        showing.setdefault(label, set()).add(person)
    recurring = {label for label, having in showing.items() if len(having) > 1}
    are_classes = all(label in recurring or labels.named(label) for label in showing)
    if len(recurring) < 2 or not are_classes or splits.by_folder(showing):
        return ()
    return () if any(map(labels.named, people)) else tuple(sorted(people))


def _subject_table(source: sources.Source, visible: Sequence[str]) -> str:
    """The table of subjects, in any case of its name; "" if there is none."""
    found = [name for name in visible if PurePosixPath(name).name.lower() == SUBJECTS]
    if len(found) > 1:
        raise errors.UserError(
            f"expected one {SUBJECTS} in {source.path}, found {manual.some(found)}. Merge them."
        )
    return found[0] if found else ""


def _composed(name: str) -> str:
    """The NFC form: macOS decomposes accents in file names, tables do not."""
    return unicodedata.normalize("NFC", name)


def _root(files: Iterable[str]) -> str:
    """The folder that contains the splits or classes; archives often add an outer folder."""
    folders = [PurePosixPath(file).parts[:-1] for file in files]
    common = _common(folders)
    # A single class folder, or a single split, is not the root.
    while common and all(len(folder) == len(common) for folder in folders):
        common = common[:-1]
    in_one_split = all(len(folder) == len(common) + 1 for folder in folders)
    if common and in_one_split and splits.is_split(common[-1]):
        common = common[:-1]
    return "".join(f"{part}/" for part in common)


def _common(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if not folders:
        return ()
    first, last = min(folders), max(folders)
    equal = [part == other for part, other in zip(first, last, strict=False)]
    return first[: [*equal, False].index(False)]


def _check_depth(
    source: sources.Source, root: str, files: Sequence[str], in_splits: Sequence[str]
) -> None:
    """Checks that every image is in a class folder, and that no split is taken for a class."""
    if not files:
        raise errors.UserError(
            f"expected images ({', '.join(sources.IMAGE_SUFFIXES)}) in class folders below "
            f"{source.path}, found {manual.describe_folder(source.path)}."
        )
    layout = "<split>/<class>/<image>" if in_splits else "<class>/<image>"
    fits = set(in_splits) or {file for file in files if file.count("/") == 1}
    wrong = [file for file in files if file not in fits]
    place = f"{source.path}/{root}"
    if wrong:
        advice = layouts.advice(source, root, files)
        raise errors.UserError(
            f"expected every image below {place} as {layout}, found {len(wrong):,} elsewhere: "
            f"{manual.some(wrong)}. {advice or _WHERE}"
        )
    as_classes = splits.by_folder({PurePosixPath(file).parent.name for file in files})
    if as_classes:
        advice = layouts.advice(source, root, files)
        raise errors.UserError(
            f"expected class folders below {place} (angry, happy ...), found the names of splits: "
            f"{', '.join(sorted(as_classes))}. "
            f"{advice or 'Put the images of each split into one folder per class.'}"
        )


def _classes(source: sources.Source, files: Sequence[str], *, has_splits: bool) -> dict[str, str]:
    by_split: dict[str, set[str]] = {}
    for file in files:
        split = file.split("/")[0] if has_splits else ""
        by_split.setdefault(split, set()).add(PurePosixPath(file).parent.name)
    folders = set().union(*by_split.values())
    for split, present in by_split.items():
        missing = sorted(folders - present)
        if missing:
            having = sorted(other for other in by_split if missing[0] in by_split[other])
            raise errors.UserError(
                f"expected the same class folders in every split of {source.path}, found no "
                f"images of {', '.join(missing)} in {split}. Use the same names in all splits, or "
                f"add images. To leave {missing[0]} out, rename "
                f"{', '.join(f'{other}/{missing[0]}' for other in having)} to .{missing[0]}: "
                "folders whose names start with a dot are not read."
            )
    return _name_classes(source, sorted(folders))


def _name_classes(source: sources.Source, folders: list[str]) -> dict[str, str]:
    """Folder to class: the emotions by their standard names and first, then others by folder."""
    if len(folders) < 2:
        raise errors.UserError(
            f"expected at least two class folders in {source.path}, found {', '.join(folders)}."
        )
    if all(folder.isdecimal() for folder in folders):
        raise errors.UserError(
            f"expected class folders with names in {source.path}, found only numbers: "
            f"{manual.some(folders)}. {layouts.numbered_advice(source, folders)}"
        )
    named = {folder: labels.named(folder) for folder in folders}
    emotions = {folder: label for folder, label in named.items() if label is not None}
    if len(set(emotions.values())) < len(emotions):
        labeled = list(emotions.values())
        same = [folder for folder, label in emotions.items() if labeled.count(label) > 1]
        raise errors.UserError(
            f"expected one folder for each emotion in {source.path}, found {', '.join(same)} "
            "for one emotion. Merge them."
        )
    ordered = sorted(emotions.items(), key=lambda pair: labels.EMOTIONS.index(pair[1]))
    return dict(ordered) | {folder: folder for folder in folders if folder not in emotions}


def _check_empty(
    source: sources.Source,
    root: str,
    classes: Mapping[str, str],
    split_of: Mapping[str, str],
    others: Sequence[str],
) -> None:
    """Checks for class and split folders without images, which image names do not show."""
    base = source.path / root
    siblings = {name.removeprefix(root).split("/")[0] for name in others if name.startswith(root)
                and "/" in name.removeprefix(root)}  # fmt: skip
    if base.is_dir():
        siblings |= {folder.name for folder in _folders(base)}
    empty = sorted(set(splits.by_folder(siblings)) - set(split_of))
    if empty:
        kinds = sorted({PurePosixPath(name).suffix for name in others
                        if name.removeprefix(root).split("/")[0] in empty})  # fmt: skip
        found = f"none ({', '.join(kinds)} files)" if kinds else "none"
        raise errors.UserError(
            f"expected images that can be read in every split folder of {source.path}/{root}, "
            f"found {found} in {', '.join(empty)}. Add or convert its images (JPEG or PNG), or "
            "remove the folder: the split is then drawn from train."
        )
    if not base.is_dir():
        return
    for parent in [base / folder for folder in split_of] or [base]:
        empty = [folder.name for folder in _folders(parent) if folder.name not in classes]
        if empty:
            raise errors.UserError(
                f"expected images in every class folder of {parent}, found none in "
                f"{manual.some(sorted(empty))}. Add images to these folders, or remove them."
            )


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
