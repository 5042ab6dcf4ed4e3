"""Summarizes a prepared data set under a protocol, as text.

Counts come from the index of the written records; found and dropped images come from the
metadata.
"""

from __future__ import annotations

import collections
import dataclasses
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer_jax import buckets
from tfds_builders.prepared import Prepared

_WIDTH = 80  # of a terminal
_PATHS = ("  source ", "  written ")  # lines that stay whole, to be copied
_LISTED = 8  # dropped images listed per reason; dropped.csv lists all


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of the records of one split.

    Attributes:
      labels: records per class.
      subjects: ids of the people (videos, movies) in the split.
      faces: records per `Face.source`.
    """

    labels: collections.Counter[str]
    subjects: frozenset[str]
    faces: collections.Counter[str]


def count(prepared: Prepared) -> dict[str, Counts]:
    """Counts the records of each split."""
    counts = {}
    for split, rows in prepared.splits.items():
        entries = [prepared.entries[row] for row in rows]
        counts[split] = Counts(
            labels=collections.Counter(entry.label for entry in entries),
            subjects=frozenset(entry.subject for entry in entries) - {""},
            faces=collections.Counter(entry.face for entry in entries),
        )
    return counts


def describe(prepared: Prepared) -> str:
    """Returns the summary of a preparation: about twenty lines of plain text."""
    metadata, counts = prepared.metadata, count(prepared)
    lines = [f"{prepared.builder.info.full_name}, protocol {prepared.protocol.name}"]
    if metadata["stand_in"]:
        lines.append("  STAND-IN: synthetic faces in the files of the set, not the set itself")
    if metadata["derived_labels"]:
        lines.append(f"  DERIVED LABELS: by the rule {metadata['label_rule']}, not by people")
    if "source" in metadata:
        lines.append(f"  source   {metadata['source']}")
    lines.append(f"  written  {buckets.origin(Path(prepared.builder.data_dir))}")
    lines += _image_lines(metadata, sum(_total(split) for split in counts.values()))
    lines += [f"  {line}" for line in metadata.get("summary", [])]
    lines += _class_table(metadata, counts)
    lines += _face_lines(counts)
    if metadata["group"]:
        lines.append(f"  {metadata['group']}s in more than one split: {metadata['leaks']:,}")
    tested = [prepared.entries[row] for row in prepared.splits["test"]]
    if unknown := sum(not entry.subject for entry in tested):
        lines.append(f"  people unknown: {unknown:,} of {len(tested):,} test images")
    lines.append(
        f"  near-duplicates across splits: {metadata['near_duplicates']:,} pairs (of "
        f"{metadata['similar_pairs']:,} in the whole set, see duplicates.csv)"
    )
    copies, relabeled = metadata["test_copies"]
    lines.append(
        f"  {copies:,} of {len(tested):,} test images have a near-duplicate in train or "
        f"validation ({relabeled:,} with another label)"
    )
    lines += [f"  {split:<11}{text}" for split, text in metadata["relabeled"].items()]
    lines += [f"  note     {note}" for note in metadata["notes"]]
    return "\n".join(part for line in lines for part in _wrap(line))


def _wrap(line: str) -> list[str]:
    if len(line) <= _WIDTH or line.startswith(_PATHS):
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(
        line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _image_lines(metadata: Mapping[str, Any], used: int) -> list[str]:
    if "found" not in metadata:
        return [f"  used     {used:,} images"]
    dropped: dict[str, list[str]] = metadata["dropped"]
    total = sum(len(names) for names in dropped.values())
    left_out = metadata["stored"] - used
    found = f"{metadata['found']:,} images ({_expected(metadata['expected'])})"
    lines = [f"  found    {found}, used {used:,}, dropped {total:,}, left out {left_out:,}"]
    for reason, names in dropped.items():
        more = f" and {len(names) - _LISTED:,} more (dropped.csv)" if len(names) > _LISTED else ""
        lines.append(f"    {len(names):,} {reason}: {', '.join(names[:_LISTED])}{more}")
    for label, number in metadata["left_out"].items():
        lines.append(f"    {number:,} {label}: not a class of this protocol")
    if rest := left_out - sum(metadata["left_out"].values()):
        lines.append(f"    {rest:,} in no split of this protocol")
    for wrong, right in metadata["misnamed"].items():
        lines.append(f"    {wrong} is misnamed: read as {right}")
    return lines


def _expected(expected: int | Mapping[str, int]) -> str:
    if isinstance(expected, Mapping):
        parts = ", ".join(f"{number:,} {split}" for split, number in expected.items())
        return f"a complete copy has {parts}"
    return f"a complete copy has {expected:,}" if expected else "your own set"


def _class_table(metadata: Mapping[str, Any], counts: dict[str, Counts]) -> list[str]:
    label_names = metadata["label_names"]
    width = max(12, *(len(name) for name in label_names))
    head = "".join(f"{split:>12}" for split in counts)
    lines = [f"  {'class':<{width}}{head}{'all':>12}"]
    for name in label_names:
        row = [split.labels[name] for split in counts.values()]
        lines.append(f"  {name:<{width}}{_cells(row)}")
    lines.append(f"  {'images':<{width}}{_cells([_total(split) for split in counts.values()])}")
    groups = [len(split.subjects) for split in counts.values()]
    if any(groups):
        total = len(frozenset().union(*(split.subjects for split in counts.values())))
        row_text = "".join(f"{number:>12,}" for number in groups)
        lines.append(f"  {metadata['group'] + 's':<{width}}{row_text}{total:>12,}")
    return lines


def _cells(row: list[int]) -> str:
    return "".join(f"{number:>12,}" for number in [*row, sum(row)])


def _total(counts: Counts) -> int:
    return sum(counts.labels.values())


def _face_lines(counts: dict[str, Counts]) -> list[str]:
    faces: collections.Counter[str] = collections.Counter()
    for split in counts.values():
        faces.update(split.faces)
    total = max(1, sum(faces.values()))
    parts = [
        f"{source} {number:,} ({number / total:.0%})" for source, number in faces.most_common()
    ]
    return [f"  faces    {', '.join(parts)}"]
