"""Protocols: whole groups, balanced strata, official splits, folds; the same on every machine."""

from __future__ import annotations

import collections

import pytest

from fer_jax import errors
from tfds_builders import prepared, protocols
from tfds_builders.protocols import Protocol, Row

LABELS = ("fear", "anger")
PEOPLE = [
    Row(f"{person}-{n}", LABELS[n % 2], f"p{person}", protocols.STORED, "FM"[person % 2])
    for person in range(40)
    for n in range(4)
]
WILD = [Row(f"r{n:03}", LABELS[n % 5 == 0], "", "train") for n in range(200)]
WILD += [Row(f"t{n:03}", LABELS[n % 2], "", "test") for n in range(50)]


def _counts(
    assigned: dict[str, str], rows: list[Row], field: str
) -> dict[str, collections.Counter]:
    counts: dict[str, collections.Counter] = {
        split: collections.Counter() for split in protocols.SPLITS
    }
    for row in rows:
        if row.id in assigned:
            counts[assigned[row.id]][getattr(row, field)] += 1
    return counts


def test_groups_are_whole_and_strata_balanced() -> None:
    assigned = protocols.by_group(PEOPLE, 0)
    groups = _counts(assigned, PEOPLE, "group")
    assert [len(some) for some in groups.values()] == [28, 6, 6]
    assert all(number == 4 for some in groups.values() for number in some.values())
    assert _counts(assigned, PEOPLE, "stratum")["test"] == {"F": 12, "M": 12}


@pytest.mark.parametrize(
    "assign",
    [protocols.by_group, protocols.at_random, protocols.fold(2, 5), protocols.official],
)
def test_the_assignment_depends_on_ids_and_seed_only(assign) -> None:
    rows = PEOPLE if assign is not protocols.official else WILD
    assert assign(rows, 3) == assign(rows[::-1], 3)
    assert assign(rows, 3) != assign(rows, 4)


def test_at_random_takes_a_number_or_a_share() -> None:
    sizes = collections.Counter(protocols.at_random(PEOPLE, 0, test=37).values())
    assert sizes == {"test": 37, "validation": 12, "train": 111}
    sizes = collections.Counter(protocols.at_random(PEOPLE, 0, test=0.25, validation=0.2).values())
    assert sizes == {"test": 40, "validation": 24, "train": 96}


def test_official_takes_validation_from_train() -> None:
    assigned = protocols.official(WILD, 0)
    assert {one for one, split in assigned.items() if split == "test"} == {
        row.id for row in WILD if row.split == "test"
    }
    # A tenth of each class of train: 40 and 160.
    assert _counts(assigned, WILD, "label")["validation"] == {"anger": 4, "fear": 16}


def test_an_official_validation_split_is_validation_or_test() -> None:
    rows = [*WILD, *(Row(f"v{n}", LABELS[n % 2], "", "validation") for n in range(9))]
    kept = collections.Counter(protocols.official(rows, 0).values())
    assert kept == {"train": 200, "validation": 9, "test": 50}
    tested = collections.Counter(
        protocols.official(rows[:200] + rows[250:], 0, test="validation").values()
    )
    assert tested == {"train": 180, "validation": 20, "test": 9}
    assert protocols.stored(rows, 0) == {row.id: row.split for row in rows}


@pytest.mark.parametrize("rows", [PEOPLE, WILD], ids=["groups", "no groups"])
def test_folds_test_every_record_once_and_share_no_group(rows: list[Row]) -> None:
    tested: list[str] = []
    for number in range(1, 11):
        assigned = protocols.fold(number, 10)(rows, 0)
        assert assigned.keys() == {row.id for row in rows}
        groups = _counts(assigned, rows, "group")
        assert protocols.shared_groups(groups) == 0
        labels = _counts(assigned, rows, "label")
        assert all(set(some) == set(LABELS) for some in labels.values())
        tested += [one for one, split in assigned.items() if split == "test"]
    assert sorted(tested) == sorted(row.id for row in rows)


def test_two_folds_have_a_validation_split() -> None:
    sizes = collections.Counter(protocols.fold(1, 2)(PEOPLE, 0).values())
    assert sizes["test"] == 80
    assert sizes["validation"] > 0


OWN = {
    "subject": Protocol("subject", "", LABELS, protocols.by_group, mask="ellipse"),
    "paper": Protocol("paper", "", LABELS[:1], protocols.at_random, note="leaks"),
}


def test_find_returns_protocols_and_folds_by_name() -> None:
    assert protocols.find(OWN, None) is OWN["subject"]
    assert protocols.find(OWN, "paper") is OWN["paper"]
    assert protocols.find(OWN, "papers") is None
    fold = protocols.find(OWN, "fold3of10")
    assert (fold.name, fold.label_names, fold.mask) == ("fold3of10", LABELS, "ellipse")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: protocols.fold(0, 5), "numbered from 1.*fold0of5"),
        (lambda: protocols.fold(1, 1), "at least 2; found fold1of1"),
        (
            lambda: protocols.by_group(PEOPLE[:12], 0),
            "at least 3 people.*of stratum 'F'.*found 2: p2, p0",
        ),
        (lambda: protocols.fold(1, 50)(PEOPLE, 0), "at least 50 groups for 50 folds, found 40"),
    ],
)
def test_impossible_splits_are_refused(call, message: str) -> None:
    with pytest.raises(errors.UserError, match=message):
        call()


def test_other_classes_are_unused_and_missing_ones_refused() -> None:
    assigned = prepared.assign(PEOPLE, OWN["paper"], LABELS, 0, "set")
    assert len(assigned) == len(PEOPLE) / 2
    every = Protocol("all", "", (), protocols.stored)
    with pytest.raises(errors.UserError, match=r"every class.*found none of fear, anger in train"):
        prepared.assign(PEOPLE, every, LABELS, 0, "set")
