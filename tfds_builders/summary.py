"""What a prepared data set holds, counted from its records, as text.

Counts come from the written records, not from what a builder meant to write. Found
and dropped pictures come from the metadata that the builder left. Prints nothing.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

_NAMED = 8  # dropped pictures named per reason; dropped.csv beside the records has all


@dataclasses.dataclass(frozen=True)
class Counts:
    """What the records of one split say.

    Attributes:
      labels: Records per class name.
      subjects: The ids of the people (videos, movies) in the split.
      faces: Records per way in which the face was found.
    """

    labels: collections.Counter[str]
    subjects: frozenset[str]
    faces: collections.Counter[str]


def count(builder: Any) -> dict[str, Counts]:
    """Reads the records of a prepared builder, without decoding pictures; one `Counts` a split."""
    import tensorflow_datasets as tfds

    names = builder.info.features["label"].names
    skip = {"image": tfds.decode.SkipDecoding()}
    counts = {}
    for split in builder.info.splits:
        records = list(builder.as_data_source(split, decoders=skip))
        subjects = frozenset(_text(record["subject"]) for record in records) - {""}
        counts[split] = Counts(
            labels=collections.Counter(names[int(record["label"])] for record in records),
            subjects=subjects,
            faces=collections.Counter(_text(record["face_source"]) for record in records),
        )
    return counts


def describe(builder: Any) -> str:
    """The closing summary of a preparation: some twenty lines of plain text."""
    metadata = dict(builder.info.metadata.items())
    counts = count(builder)
    lines = [f"{builder.info.full_name}, protocol {metadata['protocol']}"]
    if metadata["stand_in"]:
        lines.append("  STAND-IN: synthetic faces in the set's form, not the set itself")
    if "source" in metadata:
        lines.append(f"  source   {metadata['source']}")
    lines.append(f"  written  {builder.data_dir}")
    lines += _found_lines(metadata, sum(sum(one.labels.values()) for one in counts.values()))
    lines += _class_table(metadata["label_names"], counts)
    lines += _face_lines(counts)
    lines.append(f"  {metadata['group']}s in more than one split: {metadata['leaks']}")
    if metadata["notes"]:
        lines.append(f"  note     {metadata['notes']}")
    return "\n".join(lines)


def _found_lines(metadata: dict[str, Any], used: int) -> list[str]:
    if "found" not in metadata:
        return [f"  used     {used:,} pictures"]
    dropped: dict[str, list[str]] = metadata["dropped"]
    total = sum(len(names) for names in dropped.values())
    left_out = sum(metadata["left_out"].values())
    found = f"{metadata['found']:,} pictures (a whole copy has {metadata['expected']:,})"
    lines = [f"  found    {found}, used {used:,}, dropped {total:,}, left out {left_out:,}"]
    for reason, names in dropped.items():
        more = f" and {len(names) - _NAMED:,} more (dropped.csv)" if len(names) > _NAMED else ""
        lines.append(f"    {len(names):,} {reason}: {', '.join(names[:_NAMED])}{more}")
    for label, number in metadata["left_out"].items():
        lines.append(f"    {number:,} {label}: not a class of this protocol")
    for wrong, right in metadata["misnamed"].items():
        lines.append(f"    {wrong} read as {right}, which it is")
    return lines


def _class_table(label_names: list[str], counts: dict[str, Counts]) -> list[str]:
    width = max(12, *(len(name) for name in label_names))
    head = "".join(f"{split:>12}" for split in counts)
    lines = [f"  {'class':<{width}}{head}{'all':>12}"]
    for name in label_names:
        row = [one.labels[name] for one in counts.values()]
        lines.append(f"  {name:<{width}}{_cells(row)}")
    lines.append(f"  {'pictures':<{width}}{_cells([_total(one) for one in counts.values()])}")
    people = [len(one.subjects) for one in counts.values()]
    if any(people):
        everyone = len(frozenset().union(*(one.subjects for one in counts.values())))
        row_text = "".join(f"{number:>12,}" for number in people)
        lines.append(f"  {'subjects':<{width}}{row_text}{everyone:>12,}")
    return lines


def _cells(row: list[int]) -> str:
    return "".join(f"{number:>12,}" for number in [*row, sum(row)])


def _total(one: Counts) -> int:
    return sum(one.labels.values())


def _face_lines(counts: dict[str, Counts]) -> list[str]:
    faces: collections.Counter[str] = collections.Counter()
    for one in counts.values():
        faces.update(one.faces)
    total = max(1, sum(faces.values()))
    parts = [
        f"{source} {number:,} ({number / total:.0%})" for source, number in faces.most_common()
    ]
    return [f"  faces    {', '.join(parts)}"]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
