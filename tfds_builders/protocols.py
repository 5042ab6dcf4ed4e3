"""Who goes into which split: by person, as the set's owners say, or at random as in papers.

A protocol is an index over stored records, never a second copy of them. Orders come
from hashes of seed and id, so they are the same on every machine and with every
version of numpy, and one missing id moves no other. Reads and writes nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from fer_jax import errors

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
SPLITS = (TRAIN, VALIDATION, TEST)
STORED = "pictures"  # TFDS split of a set that has none of its own; TFDS keeps "all" for itself

_FOLD = re.compile(r"fold(\d+)of(\d+)")
_NAMED = 5  # group ids in a message


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What a protocol may look at: one stored record, without its picture.

    Attributes:
      id: Of the record.
      label: An emotion.
      group: The person, video or movie that must not be in two splits; "" where unknown.
      split: The split that it is stored in: the set's own, or `STORED`.
      stratum: What to balance over the splits (for people, their gender); "" for nothing.
    """

    id: str
    label: str
    group: str
    split: str
    stratum: str = ""


Assign = Callable[[Sequence[Row], int], Mapping[str, str]]
"""Rows of the protocol's classes and a seed to record id -> split; a missing id is not used."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A named way to split a set.

    Attributes:
      name: "subject", "paper", "official" ..., or made by `fold`: "fold3of10".
      description: For people, one sentence.
      label_names: The classes in index order; records of others are left out. Empty: all
        that are stored, in the stored order.
      assign: Says who goes where; the helpers of this file are of its kind.
      note: What its numbers cannot mean; printed wherever they appear. "" for nothing.
      mask: How faces are masked under it (see `fer_jax.data.preprocess`).
    """

    name: str
    description: str
    label_names: tuple[str, ...]
    assign: Assign
    note: str = ""
    mask: str = "none"


def shuffled(ids: Iterable[str], seed: int) -> list[str]:
    """`ids` in an order that only `seed` decides."""
    return sorted(ids, key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest())


def stored(rows: Sequence[Row], seed: int) -> dict[str, str]:
    """Every record in the split of train, validation and test that it is stored in."""
    del seed  # nothing is drawn
    return {row.id: row.split for row in rows if row.split in SPLITS}


def by_group(
    rows: Sequence[Row], seed: int, validation: float = 0.15, test: float = 0.15
) -> dict[str, str]:
    """Splits groups (people, videos, movies), the same shares in each stratum.

    A record without a group is a group of its own, balanced by its class.

    Args:
      rows: Records.
      seed: Decides the order.
      validation: Share of each stratum's groups, at least one.
      test: Share of each stratum's groups, at least one.

    Returns:
      Record id to split.

    Raises:
      errors.UserError: A stratum has fewer than three groups.
    """
    assigned: dict[str, str] = {}
    for stratum, groups in _by_stratum(rows).items():
        order = shuffled(groups, seed)
        _check_enough(order, stratum, 3, "train, validation and test each get their own")
        held = max(1, round(test * len(order)))
        kept = max(1, round(validation * len(order)))
        for position, one in enumerate(order):
            is_test, is_validation = position < held, position < held + kept
            assigned[one] = TEST if is_test else VALIDATION if is_validation else TRAIN
    return {row.id: assigned[_group(row)] for row in rows}


def at_random(
    rows: Sequence[Row], seed: int, test: int | float = 0.2, validation: float = 0.1
) -> dict[str, str]:
    """Splits records without regard to groups: what the paper did.

    Args:
      rows: Records.
      seed: Decides the order.
      test: Number of test records (int), or their share (float).
      validation: Share of the others.

    Returns:
      Record id to split.
    """
    order = shuffled((row.id for row in rows), seed)
    number = test if isinstance(test, int) else round(test * len(order))
    kept = round(validation * (len(order) - number))
    names = [TEST] * number + [VALIDATION] * kept + [TRAIN] * (len(order) - number - kept)
    return dict(zip(order, names, strict=True))


def random_fifth(rows: Sequence[Row], seed: int, *, whole: int) -> dict[str, str]:
    """A random fifth is the test, rounded up as scikit-learn does, a tenth of the rest validation.

    Args:
      rows: Records.
      seed: Decides the order.
      whole: Records of a whole copy. Of less than half of that, such as a small stand-in, a
        fifth of each class is the test, so that every split has every class.

    Returns:
      Record id to split.
    """
    if 2 * len(rows) >= whole:
        return at_random(rows, seed, test=-(-len(rows) // 5))
    assigned: dict[str, str] = {}
    for label in sorted({row.label for row in rows}):
        some = [row for row in rows if row.label == label]
        test = -(-len(some) // 5)
        least = 1 / max(1, len(some) - test)  # one record
        assigned |= at_random(some, seed, test, validation=max(0.1, least))
    return assigned


def official(
    rows: Sequence[Row], seed: int, validation: float = 0.1, test: str = TEST
) -> dict[str, str]:
    """The set's own splits; validation comes out of train where the set has none.

    Args:
      rows: Records.
      seed: Decides who of train becomes validation.
      validation: Share of train, by group where there are groups, else of each class.
      test: The stored split that is tested on; "validation" for sets that withhold
        their test labels and report on their validation split.

    Returns:
      Record id to split.
    """
    assigned = {row.id: TEST for row in rows if row.split == test}
    own = {row.id: VALIDATION for row in rows if row.split == VALIDATION != test}
    train = [row for row in rows if row.split == TRAIN]
    if own:
        return assigned | own | {row.id: TRAIN for row in train}
    return assigned | _carve(train, seed, validation)


def fold(number: int, of: int, validation: float = 0.1) -> Assign:
    """One fold of a cross-validation: part `number` (from 1) of `of` is tested on.

    By group where there are groups, else of each class; validation comes out of the rest.

    Raises:
      errors.UserError: No such fold.
    """
    if not 1 <= number <= of or of < 2:
        raise errors.UserError(
            f"expected a fold such as fold1of10, numbered from 1 to the number of folds, which is "
            f"at least 2; found fold{number}of{of}."
        )
    return functools.partial(_fold, number=number, of=of, validation=validation)


def is_fold(name: str) -> bool:
    """Whether a protocol of that name is a fold of a cross-validation."""
    return _FOLD.fullmatch(name) is not None


def find(protocols: Mapping[str, Protocol], name: str | None) -> Protocol | None:
    """The protocol of that name, the first where none is named, or a fold; None if unknown.

    Folds have the classes, the mask and the note-free form of the first protocol.
    """
    first = next(iter(protocols.values()))
    if name is None:
        return first
    match = _FOLD.fullmatch(name)
    if name in protocols or match is None:
        return protocols.get(name)
    number, of = int(match[1]), int(match[2])
    description = f"Fold {number} of {of}; groups are whole, validation out of the other folds."
    return Protocol(name, description, first.label_names, fold(number, of), mask=first.mask)


def shared_groups(groups_of_split: Mapping[str, Iterable[str]]) -> int:
    """How many group ids occur in more than one split: the leak that a report must name."""
    seen: dict[str, int] = {}
    for groups in groups_of_split.values():
        for one in set(groups) - {""}:
            seen[one] = seen.get(one, 0) + 1
    return sum(times > 1 for times in seen.values())


def _fold(
    rows: Sequence[Row], seed: int, *, number: int, of: int, validation: float
) -> dict[str, str]:
    part: dict[str, int] = {}
    dealt = 0  # goes on over the strata, so that small ones do not all fill the first fold
    for stratum, groups in _by_stratum(rows).items():
        order = shuffled(groups, seed)
        for one in order:
            part[one] = dealt % of
            dealt += 1
        _check_enough(order, stratum, 2, "train and test each get their own")
    if dealt < of:
        raise errors.UserError(
            f"expected at least {of} groups for {of} folds, found {dealt}; take fewer folds."
        )
    rest = [row for row in rows if part[_group(row)] != number - 1]
    tested = {row.id: TEST for row in rows if part[_group(row)] == number - 1}
    return tested | _carve(rest, seed, validation)


def _carve(rows: Sequence[Row], seed: int, validation: float) -> dict[str, str]:
    """Validation and train out of rows, whole groups, the same share in each stratum."""
    of_group: dict[str, str] = {}
    for groups in _by_stratum(rows).values():
        order = shuffled(groups, seed)
        kept = min(max(1, round(validation * len(order))), len(order) - 1)
        of_group |= dict.fromkeys(order[:kept], VALIDATION) | dict.fromkeys(order[kept:], TRAIN)
    _cover_classes(rows, of_group, seed)
    return {row.id: of_group[_group(row)] for row in rows}


def _cover_classes(rows: Sequence[Row], of_group: dict[str, str], seed: int) -> None:
    """Moves one group more to validation for each class that it lacks: rare ones are in few."""
    groups: dict[str, set[str]] = collections.defaultdict(set)
    for row in rows:
        groups[row.label].add(_group(row))

    def is_spare(group: str) -> bool:
        """Whether train keeps another group of every class of this one."""
        return all(
            any(of_group[other] == TRAIN for other in some - {group})
            for some in groups.values()
            if group in some
        )

    for label in sorted(groups):
        if all(of_group[one] == TRAIN for one in groups[label]):
            spare = (one for one in shuffled(groups[label], seed) if is_spare(one))
            of_group |= dict.fromkeys(itertools.islice(spare, 1), VALIDATION)


def _group(row: Row) -> str:
    return row.group or f"record {row.id}"


def _by_stratum(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Groups of each stratum, both sorted; a group with records of several is of the first."""
    strata: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.id):
        strata.setdefault(_group(row), row.stratum if row.group else row.label)
    found: dict[str, list[str]] = collections.defaultdict(list)
    for group in sorted(strata):
        found[strata[group]].append(group)
    return dict(sorted(found.items()))


def _check_enough(groups: Sequence[str], stratum: str, least: int, why: str) -> None:
    if len(groups) < least:
        names = ", ".join(groups[:_NAMED])
        kind = f" of kind {stratum!r}" if stratum else ""
        raise errors.UserError(
            f"expected at least {least} people or other groups{kind}, so that {why}, found "
            f"{len(groups)}: {names}. The copy is incomplete."
        )
