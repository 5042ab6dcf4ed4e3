"""Finding a whole copy of a set where the user points, and refusing half a one.

The tree alone comes first, so that a set that was unpacked beside its archives is not
read twice; then the tree with its archives. What a whole copy is says each builder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fer_jax import errors
from tfds_builders import crops, manual, sources

Lacks = Callable[[sources.Source], str]
"""What a source lacks to be a copy, to follow the word "expected"; "" if nothing."""

_MISSING_SHARE = 0.01  # a larger share is a missing archive, not a few missing files
_UNREADABLE = re.compile(r".*\.(7z|rar)(\.\d+)?", re.IGNORECASE)  # no library here opens these


def open_copy(
    manual_dir: Path, archives: str, lacks: Lacks, how_to_get: str, *, in_parts: bool = False
) -> sources.Source:
    """The user's copy as one source.

    Args:
      manual_dir: A folder, or an archive of any name.
      archives: A pattern for the names of archives that may belong to the set.
      lacks: Says what is missing.
      how_to_get: How to get the set.
      in_parts: The set comes in several archives, so that those beside a tree are read too,
        unless their own tree is there.

    Raises:
      errors.UserError: Something is missing, or an archive cannot be read.
    """
    missing = ""
    for source in _candidates(manual_dir, re.compile(archives, re.IGNORECASE), in_parts=in_parts):
        missing = lacks(source)
        if not missing:
            return source
    missing = missing or lacks(sources.JoinedSource(manual_dir, ()))
    packed = _packed(manual_dir)
    hint = f" Unpack {packed} first: 7z and rar cannot be read here." if packed else ""
    raise errors.UserError(
        f"expected {missing} in {manual_dir}, found {_what_is_there(manual_dir)}.{hint}\n"
        f"{how_to_get}"
    )


def how_to_get(name: str, text: str) -> str:
    """How to get a set, what to do with it, and how to go without, for messages."""
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
    for split, found in by_split.items():
        missing = [name for name in label_names if name not in found]
        if missing:
            raise errors.UserError(
                f"expected pictures of every class in {source.path} (split {split}), found none of "
                f"{', '.join(missing)}. The copy is incomplete: get it again."
            )


def check_missing(missing: Sequence[str], listed: int, what: str, source: sources.Source) -> None:
    """Raises a `UserError` if more than 20 files and more than 1 % of those listed are missing."""
    if len(missing) > max(manual.MAX_UNREADABLE, _MISSING_SHARE * listed):
        raise errors.UserError(
            f"expected {what} in {source.path}, found {len(missing):,} entries without: "
            f"{manual.some(missing)}. Part of the set is not unpacked."
        )


def first_by_id(
    source: sources.Source,
    pairs: Sequence[tuple[str, str]],
    worth: Callable[[str], int] = lambda _: 0,
) -> tuple[dict[str, str], list[crops.Drop]]:
    """Each id's first file, sorted by id, and the further ones as drops.

    Args:
      source: The copy, for messages.
      pairs: Id and file of every picture.
      worth: Of two files of different kinds the one with less is taken; of one kind, two of
        different sizes are an error.

    Raises:
      errors.UserError: Two files of one id differ, and nothing says which is right.
    """
    sizes = source.sizes()
    first: dict[str, str] = {}
    drops = []
    for one, file in sorted(pairs, key=lambda pair: (worth(pair[1]), pair[1])):
        kept = first.setdefault(one, file)
        if kept == file:
            continue
        if worth(kept) == worth(file) and sizes[kept] != sizes[file]:
            raise errors.UserError(
                f"expected one picture {one} in {source.path}, found two that differ: {kept} and "
                f"{file}. Remove the wrong one."
            )
        drops.append(crops.Drop(one, file, manual.DUPLICATE, kept))
    return dict(sorted(first.items())), drops


def _candidates(
    manual_dir: Path, archives: re.Pattern[str], *, in_parts: bool
) -> Iterator[sources.Source]:
    if manual_dir.is_dir():
        if not in_parts:
            yield sources.FolderSource(manual_dir)
        yield sources.gather(manual_dir, archives)
    elif manual_dir.is_file() and sources.ARCHIVE.fullmatch(manual_dir.name):
        yield sources.gather(manual_dir, archives)


def _packed(manual_dir: Path) -> str:
    if not manual_dir.is_dir():
        return ""
    names: Mapping[str, int] = sources.FolderSource(manual_dir).sizes()
    return manual.some([name for name in names if _UNREADABLE.fullmatch(PurePosixPath(name).name)])


def _what_is_there(manual_dir: Path) -> str:
    if manual_dir.is_file() and not sources.ARCHIVE.fullmatch(manual_dir.name):
        return "a file that is no archive (name the folder that it is in)"
    return manual.what_is_there(manual_dir)
