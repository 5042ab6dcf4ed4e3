"""Finds a complete copy of a set below the user's folder, and refuses an incomplete one.

The tree alone is tried first, so that a set unpacked beside its archives is not read twice;
then the tree with its archives. Each builder defines what a complete copy is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fer_jax import errors
from tfds_builders import crops, manual, sources

Lacks = Callable[[sources.Source], str]
"""Source to what it lacks, as text to follow the word "expected"; "" for a complete copy."""

_MISSING_SHARE = 0.01  # a larger share is a missing archive, not a few missing files


def open_copy(
    manual_dir: Path,
    archives: str,
    lacks: Lacks,
    how_to_get: str,
    *,
    in_parts: bool = False,
    otherwise: Lacks | None = None,
) -> sources.Source:
    """Opens the user's copy as one source.

    Args:
      manual_dir: a folder, or an archive of any name.
      archives: regular expression for the names of the set's archives.
      lacks: returns what is missing.
      how_to_get: how to get the set, for the error message.
      in_parts: whether the set consists of several archives, so that archives beside a tree
        are read too unless they are unpacked.
      otherwise: as `lacks`, for a lesser form of the set: accepted if there is no complete copy,
        neither in the tree nor in its archives.

    Raises:
      errors.UserError: The copy is incomplete, or an archive cannot be read.
    """
    missing, candidates = "", []
    for source in _candidates(manual_dir, re.compile(archives, re.IGNORECASE), in_parts=in_parts):
        missing = lacks(source)
        if not missing:
            return source
        candidates.append(source)
    for source in candidates:
        if otherwise and not otherwise(source):
            return source
    missing = missing or lacks(sources.JoinedSource(manual_dir, ()))
    raise errors.UserError(
        f"expected {missing} in {manual_dir}, found {manual.describe_folder(manual_dir)}.\n"
        f"{how_to_get}"
    )


def how_to_get(name: str, text: str) -> str:
    """How to get a set, prepare it, or try a stand-in instead; for messages."""
    return f"""\
{text}
  fer-jax prepare {name} --manual_dir FOLDER
  (in training: --config.data.manual_dir=FOLDER)
To try everything without it, with rendered faces in the set's exact form:
  fer-jax stand-in {name} data/stand_in/{name}
  fer-jax prepare {name} --manual_dir data/stand_in/{name} --data_dir \
data/stand_in/tfds
  (then in training: --config.data.dir=data/stand_in/tfds)"""


def check_classes(
    records: Sequence[manual.Record],
    label_names: Sequence[str],
    source: sources.Source,
    splits: Sequence[str] = (),
) -> None:
    """Raises a `UserError` if a stored split, or one of `splits`, lacks a class."""
    by_split: dict[str, set[str]] = {split: set() for split in splits}
    for record in records:
        by_split.setdefault(record.split, set()).add(record.label)
    for split, present in by_split.items():
        missing = [name for name in label_names if name not in present]
        if missing:
            raise errors.UserError(
                f"expected images of every class in {source.path} (split {split}), found none of "
                f"{', '.join(missing)}. The copy is incomplete: get it again."
            )


def check_missing(
    missing: Sequence[str], listed: int, expected: str, source: sources.Source
) -> None:
    """Raises a `UserError` if more than 20 files and more than 1 % of those listed are missing."""
    if len(missing) > max(manual.MAX_UNREADABLE, _MISSING_SHARE * listed):
        raise errors.UserError(
            f"expected {expected} in {source.path}, found {len(missing):,} entries without: "
            f"{manual.some(missing)}. Part of the set is not unpacked."
        )


def first_by_id(
    source: sources.Source,
    pairs: Sequence[tuple[str, str]],
    priority: Callable[[str], int] = lambda _: 0,
) -> tuple[dict[str, str], list[crops.Drop]]:
    """Chooses one file per id.

    Args:
      source: the copy, for its file sizes.
      pairs: id and file of every image.
      priority: of several files of an id, the one with the lowest value is chosen. Files with
        the same value must have the same size.

    Returns:
      Id to file, sorted by id; and the other files as drops.

    Raises:
      errors.UserError: Two files of one id and priority differ in size.
    """
    sizes = source.sizes()
    chosen: dict[str, str] = {}
    drops = []
    for image_id, file in sorted(pairs, key=lambda pair: (priority(pair[1]), pair[1])):
        first = chosen.setdefault(image_id, file)
        if first == file:
            continue
        if priority(first) == priority(file) and sizes[first] != sizes[file]:
            raise errors.UserError(
                f"expected one image {image_id} in {source.path}, found two that differ: {first} "
                f"and {file}. Remove the wrong one."
            )
        drops.append(crops.Drop(image_id, file, manual.DUPLICATE, first))
    return dict(sorted(chosen.items())), drops


def _candidates(
    manual_dir: Path, archives: re.Pattern[str], *, in_parts: bool
) -> Iterator[sources.Source]:
    if manual_dir.is_dir():
        if not in_parts:
            yield sources.FolderSource(manual_dir)
        yield sources.gather(manual_dir, archives)
    elif manual_dir.is_file() and sources.ARCHIVE.fullmatch(manual_dir.name):
        yield sources.gather(manual_dir, archives)
