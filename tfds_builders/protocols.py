"""Protocols: how records are split, by person, officially, or at random as in papers.

A protocol assigns stored records to splits; it never copies them. Random orders are hashes of
seed and id, so they are the same on every machine and with every version of NumPy, and a missing
id moves no other.
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
STORED = "pictures"  # TFDS split of a set without splits; TFDS reserves "all"

_FOLD = re.compile(r"fold(\d+)of(\d+)")
_LISTED = 5  # group ids in a message
_SINGLE = "record "  # prefix of the group of a record without one


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What a protocol uses of a stored record.

    Attributes:
      id: id of the record.
      label: an emotion.
      group: the person, video or movie that must not be in two splits; "" if unknown.
      split: the split that it is stored in: one of the set, or `STORED`.
      stratum: what to balance over the splits (for people, the gender); "" for nothing.
    """

    id: str
    label: str
    group: str
    split: str
    stratum: str = ""


Assign = Callable[[Sequence[Row], int], Mapping[str, str]]
"""From rows of the protocol's classes, and a seed, to record id -> split; other ids are unused."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A named way to split a set.

    Attributes:
      name: "subject", "paper", "official" ..., or a fold: "fold3of10".
      description: one sentence.
      label_names: the classes in index order; records of other classes are not used. Empty for
        all stored classes, in stored order.
      assign: assigns records to splits, such as `by_group`.
      note: a limitation of its results, printed beside them; "" for none.
      mask: how faces are masked (see `fer_jax.data.preprocess`).
    """

    name: str
    description: str
    label_names: tuple[str, ...]
    assign: Assign
    note: str = ""
    mask: str = "none"


def shuffled(ids: Iterable[str], seed: int) -> list[str]:
    """Shuffles `ids`; the order depends on the seed only."""
    return sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())


def stored(rows: Sequence[Row], seed: int) -> dict[str, str]:
    """Keeps the stored splits: train, validation and test."""
    del seed  # nothing is random
    return {row.id: row.split for row in rows if row.split in SPLITS}


def by_group(
    rows: Sequence[Row], seed: int, validation: float = 0.15, test: float = 0.15
) -> dict[str, str]:
    """Splits groups (people, videos, movies), with the same shares in each stratum.

    A record without a group forms a group; its stratum is its class.

    Args:
      rows: the records.
      seed: random seed.
      validation: share of each stratum's groups, at least one group.
      test: share of each stratum's groups, at least one group.

    Returns:
      Record id to split.

    Raises:
      errors.UserError: A stratum has fewer than three groups.
    """
    assigned: dict[str, str] = {}
    for stratum, groups in _by_stratum(rows).items():
        order = shuffled(groups, seed)
        _check_enough(order, stratum, 3, "train, validation and test get one each")
        tests = max(1, round(test * len(order)))
        validations = max(1, round(validation * len(order)))
        for position, group in enumerate(order):
            is_test, is_validation = position < tests, position < tests + validations
            assigned[group] = TEST if is_test else VALIDATION if is_validation else TRAIN
    return {row.id: assigned[_group(row)] for row in rows}


def at_random(
    rows: Sequence[Row], seed: int, test: int | float = 0.2, validation: float = 0.1
) -> dict[str, str]:
    """Splits records at random, regardless of groups, as the paper did.

    Args:
      rows: the records.
      seed: random seed.
      test: number of test records (int), or their share (float).
      validation: share of the remaining records.

    Returns:
      Record id to split.
    """
    order = shuffled((row.id for row in rows), seed)
    number = test if isinstance(test, int) else round(test * len(order))
    validations = round(validation * (len(order) - number))
    trained = len(order) - number - validations
    names = [TEST] * number + [VALIDATION] * validations + [TRAIN] * trained
    return dict(zip(order, names, strict=True))


def random_fifth(rows: Sequence[Row], seed: int, *, whole: int) -> dict[str, str]:
    """A random fifth is test, rounded up as in scikit-learn; a tenth of the rest is validation.

    Args:
      rows: the records.
      seed: random seed.
      whole: number of records of a complete copy. For less than half of that, such as a small
        stand-in, a fifth of each class is test, so that every split has every class.

    Returns:
      Record id to split.
    """
    if 2 * len(rows) >= whole:
        return at_random(rows, seed, test=-(-len(rows) // 5))
    assigned: dict[str, str] = {}
    for label in sorted({row.label for row in rows}):
        of_class = [row for row in rows if row.label == label]
        test = -(-len(of_class) // 5)
        one_record = 1 / max(1, len(of_class) - test)
        assigned |= at_random(of_class, seed, test, validation=max(0.1, one_record))
    return assigned


def official(
    rows: Sequence[Row], seed: int, validation: float = 0.1, test: str = TEST
) -> dict[str, str]:
    """The official splits; validation is taken from train if the set has none.

    Args:
      rows: the records.
      seed: random seed of the validation split.
      validation: share of train, by group if the set has groups, else of each class.
      test: the stored split that is tested on; "validation" for sets that withhold the test
        labels, whose results are reported on the validation split.

    Returns:
      Record id to split.
    """
    assigned = {row.id: TEST for row in rows if row.split == test}
    stored_validation = {row.id: VALIDATION for row in rows if row.split == VALIDATION != test}
    train = [row for row in rows if row.split == TRAIN]
    if stored_validation:
        return assigned | stored_validation | {row.id: TRAIN for row in train}
    return assigned | _split_off_validation(train, seed, validation)


def fold(number: int, of: int, validation: float = 0.1) -> Assign:
    """Returns fold `number` (from 1) of an `of`-fold cross-validation.

    Split by group if the set has groups, else within each class; validation is taken from the
    other folds.

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
    """Whether `name` is that of a fold."""
    return _FOLD.fullmatch(name) is not None


def find(protocols: Mapping[str, Protocol], name: str | None) -> Protocol | None:
    """Returns a protocol or fold by name, the first protocol for None; None if unknown.

    Folds have the classes and the mask of the first protocol.
    """
    first = next(iter(protocols.values()))
    if name is None:
        return first
    match = _FOLD.fullmatch(name)
    if name in protocols or match is None:
        return protocols.get(name)
    number, of = int(match[1]), int(match[2])
    description = f"Fold {number} of {of}, by group; validation is taken from the other folds."
    return Protocol(name, description, first.label_names, fold(number, of), mask=first.mask)


def shared_groups(groups_of_split: Mapping[str, Iterable[str]]) -> int:
    """The number of group ids in more than one split: a leak."""
    splits = collections.Counter(
        group for groups in groups_of_split.values() for group in set(groups) - {""}
    )
    return sum(count > 1 for count in splits.values())


def _fold(
    rows: Sequence[Row], seed: int, *, number: int, of: int, validation: float
) -> dict[str, str]:
    fold_of: dict[str, int] = {}
    dealt = 0  # continues over the strata, so that small ones do not all fill the first fold
    for stratum, groups in _by_stratum(rows).items():
        order = shuffled(groups, seed)
        for group in order:
            fold_of[group] = dealt % of
            dealt += 1
        _check_enough(order, stratum, 2, "train and test get one each")
    if dealt < of:
        raise errors.UserError(
            f"expected at least {of} groups for {of} folds, found {dealt}; use fewer folds."
        )
    rest = [row for row in rows if fold_of[_group(row)] != number - 1]
    tested = {row.id: TEST for row in rows if fold_of[_group(row)] == number - 1}
    return tested | _split_off_validation(rest, seed, validation)


def _split_off_validation(rows: Sequence[Row], seed: int, validation: float) -> dict[str, str]:
    """Splits rows into validation and train by group, with the same share in each stratum."""
    of_group: dict[str, str] = {}
    for groups in _by_stratum(rows).values():
        order = shuffled(groups, seed)
        count = min(max(1, round(validation * len(order))), len(order) - 1)
        of_group |= dict.fromkeys(order[:count], VALIDATION) | dict.fromkeys(order[count:], TRAIN)
    _cover_classes(rows, of_group, seed)
    return {row.id: of_group[_group(row)] for row in rows}


def _cover_classes(rows: Sequence[Row], of_group: dict[str, str], seed: int) -> None:
    """Moves one group to validation for each (rare) class that validation lacks."""
    groups: dict[str, set[str]] = collections.defaultdict(set)
    for row in rows:
        groups[row.label].add(_group(row))

    def is_spare(group: str) -> bool:
        """Whether train has another group for every class of this one."""
        return all(
            any(of_group[other] == TRAIN for other in of_class - {group})
            for of_class in groups.values()
            if group in of_class
        )

    for label in sorted(groups):
        if all(of_group[group] == TRAIN for group in groups[label]):
            spare = filter(is_spare, shuffled(groups[label], seed))
            of_group |= dict.fromkeys(itertools.islice(spare, 1), VALIDATION)


def _group(row: Row) -> str:
    return row.group or _SINGLE + row.id


def _by_stratum(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Stratum to groups, both sorted; a group in several strata counts for the first."""
    strata: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.id):
        strata.setdefault(_group(row), row.stratum if row.group else row.label)
    by_stratum: dict[str, list[str]] = collections.defaultdict(list)
    for group in sorted(strata):
        by_stratum[strata[group]].append(group)
    return dict(sorted(by_stratum.items()))


def _check_enough(groups: Sequence[str], stratum: str, minimum: int, why: str) -> None:
    if len(groups) >= minimum:
        return
    names = ", ".join(group.removeprefix(_SINGLE) for group in groups[:_LISTED])
    if groups[0].startswith(_SINGLE):
        expected = f"{minimum} images of {stratum}"
        advice = f"Add images, or leave the class {stratum} out."
    else:
        kind = f" of stratum {stratum!r}" if stratum else ""
        expected = f"{minimum} people or other groups{kind}"
        advice = "The copy is incomplete, or too small."
    raise errors.UserError(
        f"expected at least {expected}, so that {why}, found {len(groups)}: {names}. {advice}"
    )
