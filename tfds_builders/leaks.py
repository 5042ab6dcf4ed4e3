"""Leaks between splits: shared people, and near-duplicate images.

Counted when a set is prepared and when it is opened. duplicates.csv beside the records lists the
pairs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfds_builders import duplicates, index, protocols

FILE = "duplicates.csv"


def write_pairs(folder: Path, entries: Sequence[index.Entry], pairs: np.ndarray) -> None:
    """Writes duplicates.csv: near-duplicate pairs, with the number of hash bits that differ."""
    with open(folder / FILE, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "other", "bits", "split", "other_split", "label", "other_label"])
        for first, second in pairs:
            a, b = entries[first], entries[second]
            bits = duplicates.distance(a.look, b.look)
            table.writerow([a.id, b.id, bits, a.split, b.split, a.label, b.label])


def count_shared(entries: Sequence[index.Entry], assigned: Mapping[str, str]) -> int:
    """The number of groups with records in more than one split."""
    groups: dict[str, list[str]] = {split: [] for split in protocols.SPLITS}
    for entry in entries:
        if entry.id in assigned:
            groups[assigned[entry.id]].append(entry.subject)
    return protocols.shared_groups(groups)


def count_pairs(
    entries: Sequence[index.Entry], pairs: np.ndarray, assigned: Mapping[str, str]
) -> int:
    """The number of near-duplicate pairs whose images are in different splits."""
    numbers = {name: number for number, name in enumerate(protocols.SPLITS)}
    splits = np.array([numbers.get(assigned.get(entry.id, ""), -1) for entry in entries])
    first, second = splits[pairs[:, 0]], splits[pairs[:, 1]]
    return int(((first != second) & (first >= 0) & (second >= 0)).sum())


def read_pairs(folder: Path, entries: Sequence[index.Entry]) -> np.ndarray:
    """Reads duplicates.csv: int64[P, 2], row numbers of `entries`."""
    rows = {entry.id: row for row, entry in enumerate(entries)}
    with open(folder / FILE, newline="", encoding="utf-8", errors="surrogateescape") as file:
        listed = [(rows[line["id"]], rows[line["other"]]) for line in csv.DictReader(file)]
    return np.array(listed, np.int64).reshape(-1, 2)
