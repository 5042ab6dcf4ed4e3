"""Leaks between splits: shared people, and near-duplicate images.

Counted when a set is prepared and when it is opened. Beside the records, duplicates.csv lists the
pairs, and looks.npy contains what they were found by.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np

from fer_jax import errors, files
from fer_jax.monitor import console
from tfds_builders import duplicates, index, protocols

FILE = "duplicates.csv"
LOOKS = "looks.npy"


def write(folder: Path, entries: Sequence[index.Entry], looks: np.ndarray) -> np.ndarray:
    """Writes duplicates.csv and looks.npy.

    Args:
      folder: of the records.
      entries: of all records.
      looks: uint8[N, LOOK_BYTES].

    Returns:
      int64[P, 2], near-duplicate pairs as row numbers of `entries`.
    """
    pairs, similarities = duplicates.pairs(looks)
    text, content = io.StringIO(), io.BytesIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "other", "similarity", "split", "other_split", "label", "other_label"])
    for (first, second), similarity in zip(pairs, similarities, strict=True):
        a, b = entries[first], entries[second]
        table.writerow([a.id, b.id, f"{similarity:.3f}", a.split, b.split, a.label, b.label])
    np.save(content, looks)
    files.write_bytes(folder / FILE, text.getvalue().encode("utf-8", "surrogateescape"))
    files.write_bytes(folder / LOOKS, content.getvalue())  # last: it says that both are there
    return pairs


def read(
    folder: Path, entries: Sequence[index.Entry], image: Callable[[int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Reads looks.npy and duplicates.csv; finds both again for sets of an older version.

    Args:
      folder: of the records.
      entries: of all records.
      image: decodes a record, uint8[H, W, 3].

    Returns:
      uint8[N, LOOK_BYTES] looks, and int64[P, 2] near-duplicate pairs.
    """
    shape = (len(entries), duplicates.LOOK_BYTES)
    if (folder / LOOKS).is_file():
        looks = np.load(folder / LOOKS, mmap_mode="r")
        if looks.shape == shape:
            return looks, _read_pairs(folder, entries)
    console.print_stderr(f"{folder}: prepared by an older version; finding near-duplicates again")
    with futures.ThreadPoolExecutor() as pool:  # OpenCV releases the GIL
        looks = duplicates.stack(
            list(pool.map(lambda row: duplicates.look(image(row)), range(len(entries))))
        )
    try:
        return looks, write(folder, entries, looks)
    except errors.UserError:  # not writable: found again the next time
        return looks, duplicates.pairs(looks)[0]


def count_shared(entries: Sequence[index.Entry], splits: np.ndarray) -> int:
    """The number of groups with records in more than one split: str[N], "" in none."""
    groups: dict[str, list[str]] = {split: [] for split in protocols.SPLITS}
    for entry, split in zip(entries, splits.tolist(), strict=True):
        if split:
            groups[split].append(entry.subject)
    return protocols.shared_groups(groups)


def count_pairs(pairs: np.ndarray, splits: np.ndarray) -> int:
    """The number of near-duplicate pairs whose images are in different splits."""
    first, second = splits[pairs[:, 0]], splits[pairs[:, 1]]
    return int(((first != second) & (first != "") & (second != "")).sum())


def count_copies(
    entries: Sequence[index.Entry], pairs: np.ndarray, splits: np.ndarray
) -> tuple[int, int]:
    """The number of test images with a near-duplicate in train or validation.

    And the number of those with a near-duplicate of another label.
    """
    copies, relabeled = set(), set()
    for pair in pairs.tolist():
        for test, other in (pair, pair[::-1]):
            if splits[test] == protocols.TEST and splits[other] in (
                protocols.TRAIN,
                protocols.VALIDATION,
            ):
                copies.add(test)
                if entries[test].label != entries[other].label:
                    relabeled.add(test)
    return len(copies), len(relabeled)


def _read_pairs(folder: Path, entries: Sequence[index.Entry]) -> np.ndarray:
    with open(folder / FILE, newline="", encoding="utf-8", errors="surrogateescape") as file:
        pairs = [(line["id"], line["other"]) for line in csv.DictReader(file)]
    listed = {record_id for pair in pairs for record_id in pair}
    rows = {entry.id: row for row, entry in enumerate(entries) if entry.id in listed}
    found = [(rows[first], rows[second]) for first, second in pairs]
    return np.array(found, np.int64).reshape(-1, 2)
