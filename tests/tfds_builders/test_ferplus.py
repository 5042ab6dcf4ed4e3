"""FER+'s majority rule against an oracle, the join with FER2013's csv, bad copies."""

from __future__ import annotations

import collections
import fractions
import pathlib

import numpy as np
import pytest

from fer_jax import labels
from tests.tfds_builders import damage
from tfds_builders import prepare as build
from tfds_builders.fer2013 import names
from tfds_builders.ferplus import ferplus_dataset_builder as ferplus
from tfds_builders.ferplus import votes
from tfds_builders.stand_ins import fer2013
from tfds_builders.stand_ins import ferplus as stand_in

TABLE = "fer2013new.csv"
SCALE = 0.004


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return damage.write_stand_in(tmp_path_factory, "ferplus", SCALE)


def _oracle(row: dict[str, int]) -> str:
    """The same rule, written with sets and fractions instead of lists and indices."""
    left = {choice: number for choice, number in row.items() if number >= 2}
    winners = {
        choice
        for choice, number in left.items()
        if fractions.Fraction(number, sum(left.values())) > fractions.Fraction(1, 2)
    }
    return winners.pop() if winners else "unknown"


def _branches() -> list[tuple[int, ...]]:
    """Votes chosen for every branch, then many random ones."""
    by_hand = [
        (10, 0, 0, 0, 0, 0, 0, 0, 0, 0),  # unanimous
        (5, 5, 0, 0, 0, 0, 0, 0, 0, 0),  # a tie
        (5, 4, 1, 0, 0, 0, 0, 0, 0, 0),  # half of all votes, but the single vote is ignored
        (4, 2, 2, 1, 1, 0, 0, 0, 0, 0),  # exactly half of the counted votes
        (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),  # only single votes
        (2, 1, 1, 1, 1, 1, 1, 1, 1, 0),  # only one choice with two votes
        (3, 0, 0, 0, 0, 0, 0, 0, 7, 0),  # unknown wins
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 10),  # no face wins
        (4, 0, 0, 0, 0, 0, 0, 0, 2, 2),  # votes for unknown and no face are counted
        (0, 0, 0, 0, 0, 0, 0, 10, 0, 0),  # contempt
        (0,) * 10,  # no votes
    ]
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.full(10, 0.2), 3_000)
    return by_hand + [tuple(map(int, rng.multinomial(10, share))) for share in shares]


def test_majority_matches_the_oracle() -> None:
    found = [votes.majority(cast) for cast in _branches()]
    expected = [_oracle(dict(zip(votes.CHOICES, cast, strict=True))) for cast in _branches()]
    assert found == expected
    assert set(found) == {*labels.FERPLUS, "unknown", "NF"}
    assert found[:11] == [
        "neutral", "unknown", "neutral", "unknown", "unknown", "neutral", "unknown", "NF",
        "unknown", "contempt", "unknown",
    ]  # fmt: skip


def test_records_and_drops_match_the_oracle(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    opened = damage.open_copy("ferplus", tmp_path, tree)
    found = {one.id: one.label for one in opened.records}
    reasons = {drop.id: drop.reason for drop in opened.drops}
    lines = (tree / TABLE).read_text().splitlines()[1:]
    for number, line in enumerate(lines):
        usage, name, *cast = line.split(",")
        one = f"{usage}_{number:05d}"
        winner = _oracle(dict(zip(votes.CHOICES, map(int, cast), strict=True)))
        if not name:
            assert reasons[one] == ferplus.NO_NAME
        elif winner in ("unknown", "NF"):
            assert reasons[one] == (ferplus.NO_FACE if winner == "NF" else ferplus.NO_MAJORITY)
        else:
            assert found[one] == winner
    assert len(found) + len(reasons) == len(lines)
    assert set(reasons.values()) == {ferplus.NO_NAME, ferplus.NO_FACE, ferplus.NO_MAJORITY}


def test_prepare_compares_with_the_published_counts(
    tree: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = build.prepare("ferplus", None, str(tmp_path), str(tree))
    assert "a complete copy has 25,060/3,199/3,153" in capsys.readouterr().out
    assert prepared.label_names == labels.FERPLUS
    number = {split: len(rows) for split, rows in prepared.splits.items()}
    assert prepared.metadata["majority"] == number
    record = prepared.record(int(prepared.splits["train"][0]))
    assert record["votes"].sum() == 10
    assert votes.majority(record["votes"].tolist()) == labels.FERPLUS[record["label"]]
    for split, rows in prepared.splits.items():
        shares = prepared.votes(split)
        cast = np.array([prepared.record(int(row))["votes"][:8] for row in rows])
        np.testing.assert_allclose(shares, cast / cast.sum(axis=1, keepdims=True), rtol=1e-6)
        np.testing.assert_array_equal(shares.argmax(axis=1), prepared.labels(split))


def test_full_scale_has_the_published_counts() -> None:
    kept: collections.Counter[str] = collections.Counter()
    rows, number, unnamed = fer2013.rows(1.0), 0, 0
    for usage, split in names.USAGES.items():
        some = [row for row in rows if row.usage == usage]
        for line in stand_in._lines(usage, some, number):
            _, name, *cast = line.split(",")
            unnamed += not name
            kept[split] += votes.majority(list(map(int, cast))) in labels.FERPLUS and bool(name)
        number += len(some)
    assert kept == votes.MAJORITY_COUNTS
    assert unnamed == 173
    expected = "25,060/3,199/3,153 images with a majority label, exactly as published"
    assert ferplus._compare(kept) == expected


def _sorted(root: pathlib.Path) -> pathlib.Path:
    header, *lines = (root / TABLE).read_text().splitlines()
    (root / TABLE).write_text("\n".join([header, *sorted(lines)]) + "\n")
    return root


def _folders_for_the_csv(root: pathlib.Path) -> pathlib.Path:
    (root / "fer2013.csv").unlink()
    return damage.added("train/happy/Training_1.jpg")(root)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(damage.nowhere, "no such folder", id="nowhere"),
        pytest.param(damage.wrong_archive, "fer2013new.csv and FER2013's fer2013.csv", id="wrong"),
        pytest.param(damage.outside, "points outside", id="outside"),
        pytest.param(damage.removed(TABLE), "expected fer2013new.csv in", id="no_votes"),
        pytest.param(damage.removed("fer2013.csv"), "expected FER2013's", id="no_images"),
        pytest.param(_folders_for_the_csv, "image folders do not preserve", id="folder_form"),
        pytest.param(
            damage.replaced(TABLE, "contempt,unknown", "contempt"), "columns Usage", id="header"
        ),
        pytest.param(damage.replaced(TABLE, ",0,0,", ",0,x,"), "numbers of votes", id="no_number"),
        pytest.param(_sorted, "One of them was sorted", id="sorted"),
        pytest.param(
            damage.rewritten(TABLE, lambda data: b"\n".join(data.split(b"\n")[:-3]) + b"\n"),
            "no row",
            id="cut_off",
        ),
        pytest.param(damage.replaced("fer2013.csv", "\n3,", "\n3,x "), "not 2304", id="no_image"),
    ],
)
def test_bad_copy_is_a_user_error(bad, message, tree, tmp_path, monkeypatch) -> None:
    damage.check("ferplus", bad, message, tree, tmp_path, monkeypatch)
