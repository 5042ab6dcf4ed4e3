"""Indexes a part of RAF-DB in its original layout: label list, images and attribute files.

folders.py indexes copies in class folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fer_jax import errors
from tfds_builders import copies, crops, manual, sources, tables
from tfds_builders.raf_db import names

MAX_MISMATCHES = 20  # unlisted or missing images; more is another set, or an incomplete one
_UNLISTED = "not in the label list"


def index(
    source: sources.Source, part: names.Part, *, aligned: bool
) -> tuple[list[manual.Record], list[crops.Drop]]:
    """Records of all listed images, train first; drops are duplicates and unlisted images.

    Args:
      source: a copy with a label list.
      part: basic or compound.
      aligned: whether to use the shipped crops, instead of the original images.
    """
    listed = read_list(source, part)
    first, drops = copies.first_by_id(source, images(source, part, aligned=aligned))
    drops += [
        crops.Drop(image_id, file, _UNLISTED, "")
        for image_id, file in first.items()
        if image_id not in listed
    ]
    _check_unlisted([drop.file for drop in drops if drop.reason == _UNLISTED], source)
    _check_listed(listed, first, source, aligned=aligned)
    attributes = read_attributes(source, part)
    records = [
        _record(image_id, first[image_id], label, attributes.get(image_id), aligned=aligned)
        for image_id, label in listed.items()
        if image_id in first
    ]
    copies.check_classes(records, part.labels, source, names.SPLITS)
    return records, drops


def images(source: sources.Source, part: names.Part, *, aligned: bool) -> list[tuple[str, str]]:
    """Ids and files of the aligned images, or of the original ones."""
    files = sources.files_with_suffix(source, names.ENDINGS)
    parsed = [(file, names.parse(file, part)) for file in files]
    return [(found[0], file) for file, found in parsed if found and found[1] == aligned]


def missing(source: sources.Source, part: names.Part, *, aligned: bool) -> list[str]:
    """Ids of listed images that are missing."""
    present = dict(images(source, part, aligned=aligned))
    return [image_id for image_id in read_list(source, part) if image_id not in present]


def read_list(source: sources.Source, part: names.Part) -> dict[str, str]:
    """Id to class, train before test, each sorted by number.

    Raises:
      errors.UserError: There are different label lists, or a line is invalid.
    """
    files = [file for file in source.sizes() if names.is_label_list(file, part)]
    texts = {file: tables.read_text(source, file) for file in files}
    if len({text.strip() for text in texts.values()}) != 1:
        raise errors.UserError(
            f"expected one label list in {source.path}, found {len(files)} that differ: "
            f"{manual.some(files)}. Remove all but the original."
        )
    listed: dict[str, str] = {}
    for number, line in enumerate(texts[files[0]].splitlines(), start=1):
        if not line.strip():
            continue
        parsed = names.parse_line(line, part)
        if parsed is None or listed.setdefault(*parsed) != parsed[1]:
            problem = "a second label" if parsed else "another format"
            raise errors.UserError(
                f"expected lines such as 'train_00001.jpg 5' (labels 1 to {len(part.labels)}, each "
                f"name once) in {files[0]} of {source.path}, found {problem} in line {number}: "
                f"{line.strip()[:80]!r}. Use the list of the {part.name} part as RAF-DB's owners "
                "sent it."
            )
    order = sorted(listed, key=lambda image_id: (not image_id.startswith("train"), image_id))
    return {image_id: listed[image_id] for image_id in order}


def read_attributes(source: sources.Source, part: names.Part) -> dict[str, names.Attributes]:
    """Id to attributes, without damaged attribute files."""
    by_id: dict[str, names.Attributes] = {}
    for file in source.sizes():
        image_id = names.attributes_of(file, part)
        if image_id is not None and image_id not in by_id:
            try:
                text = source.read(file).decode("ascii", errors="replace")
            except sources.MemberError:
                continue
            attributes = names.parse_attributes(text)
            if attributes is not None:
                by_id[image_id] = attributes
    return by_id


def _record(
    image_id: str, file: str, label: str, known: names.Attributes | None, *, aligned: bool
) -> manual.Record:
    attributes = known or names.Attributes()
    return manual.Record(
        id=image_id,
        file=file,
        label=label,
        subject="",  # people are not identified
        split=image_id.partition("_")[0],
        landmarks=None if aligned else attributes.landmarks,  # in pixels of the original image
        extras={
            "gender": attributes.gender,
            "race": attributes.race,
            "age": attributes.age,
        },
    )


def _check_unlisted(unlisted: Sequence[str], source: sources.Source) -> None:
    if len(unlisted) > MAX_MISMATCHES:
        raise errors.UserError(
            f"expected the images of the label list in {source.path}, found {len(unlisted):,} "
            f"more: {manual.some(unlisted)}. The list is truncated, or the images are from "
            "another part of the set."
        )


def _check_listed(
    listed: Mapping[str, str], present: Mapping[str, str], source: sources.Source, *, aligned: bool
) -> None:
    lost = [image_id for image_id in listed if image_id not in present]
    if len(lost) > MAX_MISMATCHES:
        kind = "aligned" if aligned else "original"
        raise errors.UserError(
            f"expected the {kind} images of all {len(listed):,} lines of the label list in "
            f"{source.path}, found {len(lost):,} missing: {manual.some(lost)}. The copy is "
            "incomplete: get it again, or unpack all of it."
        )
