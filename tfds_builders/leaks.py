"""What splits share: people, and pictures that look alike.

Counted when a set is prepared and when it is opened; duplicates.csv beside the records
lists the pairs. It decides nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfds_builders import duplicates, index, protocols

FILE = "duplicates.csv"


def write_pairs(folder: Path, entries: Sequence[index.Entry], pairs: np.ndarray) -> None:
    """Lists all pairs of records that look alike, with the number of bits that differ."""
    with open(folder / FILE, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "other", "bits", "split", "other_split", "label", "other_label"])
        for first, second in pairs:
            one, other = entries[first], entries[second]
            bits = duplicates.distance(one.look, other.look)
            table.writerow([one.id, other.id, bits, one.split, other.split, one.label, other.label])


def count_shared(entries: Sequence[index.Entry], assigned: Mapping[str, str]) -> int:
    """Groups with records in more than one split."""
    groups: dict[str, list[str]] = {split: [] for split in protocols.SPLITS}
    for one in entries:
        if one.id in assigned:
            groups[assigned[one.id]].append(one.subject)
    return protocols.shared_groups(groups)


def count_pairs(
    entries: Sequence[index.Entry], pairs: np.ndarray, assigned: Mapping[str, str]
) -> int:
    """Pairs that look alike with one in another split than the other."""
    splits = np.array([protocols.SPLITS.index(assigned[one.id]) if one.id in assigned else -1
                       for one in entries])  # fmt: skip
    first, second = splits[pairs[:, 0]], splits[pairs[:, 1]]
    return int(((first != second) & (first >= 0) & (second >= 0)).sum())


def read_pairs(folder: Path, entries: Sequence[index.Entry]) -> np.ndarray:
    """int64[P, 2]: the rows of the pairs that `write_pairs` listed."""
    rows = {one.id: row for row, one in enumerate(entries)}
    with open(folder / FILE, newline="", encoding="utf-8", errors="surrogateescape") as file:
        listed = [(rows[line["id"]], rows[line["other"]]) for line in csv.DictReader(file)]
    return np.array(listed, np.int64).reshape(-1, 2)
