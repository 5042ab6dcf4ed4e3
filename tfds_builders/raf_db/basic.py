"""RAF-DB as its owners send it: the label list, pictures and attribute files to records.

Copies that someone sorted into folders are folders.py. Reads no picture.
"""

from __future__ import annotations

from collections.abc import Mapping

from fer_jax import errors
from tfds_builders import crops, manual, sources
from tfds_builders.raf_db import names

MAX_ODD = 20  # pictures not listed, or not there; more is another set, or half of it
_UNLISTED = "not in the label list"


def index(source: sources.Source, *, aligned: bool) -> tuple[list[manual.Record], list[crops.Drop]]:
    """All listed pictures that are there, train first; drops are second copies and unlisted ones.

    Args:
      source: A copy with a label list.
      aligned: Whether the shipped crops are meant, or the original pictures.
    """
    listed = read_list(source)
    files = pictures(source, aligned=aligned)
    first, drops = manual.drop_copies(source, files, _id_of)
    drops += [
        crops.Drop(one, file, _UNLISTED, "") for one, file in first.items() if one not in listed
    ]
    _refuse_strangers([drop for drop in drops if drop.reason == _UNLISTED], source)
    _refuse_missing(listed, first, source, aligned=aligned)
    known = read_attributes(source)
    return [
        _record(one, first[one], label, known.get(one), aligned=aligned)
        for one, label in listed.items()
        if one in first
    ], drops


def pictures(source: sources.Source, *, aligned: bool) -> list[str]:
    """The files that are aligned pictures, or the originals."""
    files = sources.pictures_in(source, names.ENDINGS)
    return [file for file in files if (found := names.picture(file)) and found[1] == aligned]


def missing(source: sources.Source, *, aligned: bool) -> list[str]:
    """Ids of pictures that are listed but not there."""
    there = {_id_of(file) for file in pictures(source, aligned=aligned)}
    return [one for one in read_list(source) if one not in there]


def read_list(source: sources.Source) -> dict[str, str]:
    """Id to emotion, train before test, each in order of its number.

    Raises:
      errors.UserError: Lists that differ, or a line that is not the set's.
    """
    files = [file for file in source.sizes() if names.is_label_list(file)]
    texts = {file: _text(source, file) for file in files}
    if len({text.strip() for text in texts.values()}) != 1:
        raise errors.UserError(
            f"expected one label list in {source.path}, found {len(files)} that differ: "
            f"{manual.some(files)}. Keep the one that your copy came with."
        )
    listed: dict[str, str] = {}
    for number, line in enumerate(texts[files[0]].splitlines(), start=1):
        if not line.strip():
            continue
        parsed = names.parse_line(line)
        if parsed is None or listed.setdefault(*parsed) != parsed[1]:
            twice = "a second label for it" if parsed else "other than that"
            raise errors.UserError(
                f"expected lines such as 'train_00001.jpg 5' (labels 1 to 7, each name once) in "
                f"{files[0]} of {source.path}, found {twice} in line {number}: "
                f"{line.strip()[:80]!r}. Use the list of the basic part as RAF-DB's owners sent it."
            )
    order = sorted(listed, key=lambda one: (not one.startswith("train"), one))
    return {one: listed[one] for one in order}


def read_attributes(source: sources.Source) -> dict[str, names.Attributes]:
    """What is known of each picture; a file that is damaged is as good as none."""
    known = {}
    for file in source.sizes():
        one = names.attributes_of(file)
        if one is not None and one not in known:
            try:
                text = source.read(file).decode("ascii", errors="replace")
            except sources.MemberError:
                continue
            attributes = names.parse_attributes(text)
            if attributes is not None:
                known[one] = attributes
    return known


def _id_of(file: str) -> str:
    found = names.picture(file)
    assert found is not None  # only pictures are asked for
    return found[0]


def _text(source: sources.Source, file: str) -> str:
    try:
        return source.read(file).decode("utf-8-sig", errors="replace")
    except sources.MemberError as error:
        raise errors.UserError(
            f"expected to read {file} in {source.path}, found it damaged ({error}). Get the copy "
            "again."
        ) from error


def _record(
    one: str, file: str, label: str, known: names.Attributes | None, *, aligned: bool
) -> manual.Record:
    about = known or names.Attributes()
    return manual.Record(
        id=one,
        file=file,
        label=label,
        subject="",  # nobody is named in RAF-DB
        split=one.partition("_")[0],
        landmarks=None if aligned else about.landmarks,  # these lie in the original
        extras={"gender": about.gender, "race": about.race, "age": about.age},
    )


def _refuse_strangers(unlisted: list[crops.Drop], source: sources.Source) -> None:
    if len(unlisted) > MAX_ODD:
        raise errors.UserError(
            f"expected the pictures of the label list in {source.path}, found {len(unlisted):,} "
            f"more: {manual.some([drop.file for drop in unlisted])}. The list is cut short, or "
            "the pictures are another part of the set."
        )


def _refuse_missing(
    listed: Mapping[str, str], there: Mapping[str, str], source: sources.Source, *, aligned: bool
) -> None:
    lost = [one for one in listed if one not in there]
    of_class = {(one.partition("_")[0], label) for one, label in listed.items() if one in there}
    empty = [
        f"{label} in {split}"
        for split in names.SPLITS
        for label in names.COUNTS[split]
        if (split, label) not in of_class
    ]
    if len(lost) > MAX_ODD or empty:
        what = "aligned pictures" if aligned else "original pictures"
        raise errors.UserError(
            f"expected the {what} of all {len(listed):,} lines of the label list in "
            f"{source.path}, with every class in train and in test, found {len(lost):,} of them "
            f"missing ({manual.some(lost) or 'none'}) and nothing of {manual.some(empty) or 'none'}"
            ". The copy is incomplete: get it again, or unpack all of it."
        )
