"""Counts what evaluated records share with the records that the network learned from.

A leak is between a network and its test images, not a property of a protocol: a run evaluated under
another protocol, or started from another run, has seen other records than its own splits say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_jax.data.provenance import Provenance, digests_of
from fer_jax.report.card import Overlap
from tfds_builders import duplicates
from tfds_builders.prepared import Prepared


def count_overlap(
    learned: Provenance | None, data: Prepared, rows: Sequence[int] | np.ndarray, run: str
) -> Overlap:
    """Counts shared ids, subjects and near-duplicates.

    Args:
      learned: records of train and validation of the run and all its ancestors; None if unknown.
      data: the evaluated data set.
      rows: the evaluated rows of `data.entries`.
      run: name of the run, for an unknown one.
    """
    tested = Provenance.of(data, rows)
    if learned is None:
        return Overlap(images=len(tested), unknown=(run,))
    seen_ids = set(zip(learned.sets, learned.ids, strict=True))
    people = set(zip(learned.sets, learned.subjects, strict=True))
    subjects = {pair for pair in zip(tested.sets, tested.subjects, strict=True) if pair[1]}
    is_known = (data.origin, "") not in people
    anonymous = sum(not (subject and is_known) for subject in tested.subjects)
    pairs = _near_duplicates(learned, tested, data, np.asarray(rows))
    relabeled = {a for a, b in pairs if tested.labels[a] != learned.labels[b]}
    return Overlap(
        images=len(tested),
        ids=sum(pair in seen_ids for pair in zip(tested.sets, tested.ids, strict=True)),
        subjects=len(subjects & people),
        anonymous=anonymous if data.origin in learned.sets else 0,
        copies=len({a for a, _ in pairs}),
        relabeled=len(relabeled),
        unknown=learned.unknown,
        digests=int((~learned.has_pixels).sum()),
    )


def _near_duplicates(
    learned: Provenance, tested: Provenance, data: Prepared, rows: np.ndarray
) -> list[tuple[int, int]]:
    """Near-duplicates of different records: rows of `tested`, rows of `learned`.

    Pairs within the data set were found when it was prepared; only other records are compared.
    Of learned records without pixels, exact copies are found.
    """
    seen, known = learned.look_digests(), digests_of(data.looks)
    numbers = {entry.id: number for number, entry in enumerate(data.entries)}
    place = np.full(len(learned), -1, np.int64)  # of learned records in the data set
    for number, (origin, name) in enumerate(zip(learned.sets, learned.ids, strict=True)):
        row = numbers.get(name, -1) if origin == data.origin else -1
        if row >= 0 and seen[number] == known[row]:
            place[number] = row
    of_learned: dict[int, list[int]] = {}
    for number in np.flatnonzero(place >= 0).tolist():
        of_learned.setdefault(int(place[number]), []).append(number)
    of_tested = {int(row): number for number, row in enumerate(rows)}
    found = [
        (of_tested[first], number)
        for pair in data.pairs.tolist()
        for first, second in (pair, pair[::-1])
        if first in of_tested
        for number in of_learned.get(second, ())
    ]
    others = np.flatnonzero((place < 0) & learned.has_pixels)
    matches = duplicates.matches(tested.looks, learned.looks[others])
    found += [(int(a), int(others[b])) for a, b in matches]
    found += _copies(known[rows], seen, np.flatnonzero((place < 0) & ~learned.has_pixels))
    return [
        (a, b)
        for a, b in found
        if (tested.sets[a], tested.ids[a]) != (learned.sets[b], learned.ids[b])
    ]


def _copies(tested: np.ndarray, learned: np.ndarray, chosen: np.ndarray) -> list[tuple[int, int]]:
    """Rows of `tested` and rows of `learned` among `chosen` whose digests are equal."""
    rows: dict[int, list[int]] = {}
    for row in chosen.tolist():
        rows.setdefault(int(learned[row]), []).append(row)
    return [(a, b) for a, digest in enumerate(tested.tolist()) for b in rows.get(digest, ())]
