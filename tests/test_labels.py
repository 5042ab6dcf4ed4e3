"""Emotions: each set's classes, other words for them, maps between sets."""

from __future__ import annotations

import pytest

from fer_jax import labels
from fer_jax.errors import UserError

SETS = {name: value for name, value in vars(labels).items() if name.isupper() and
        isinstance(value, tuple)}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_a_set_has_each_of_its_emotions_once(name: str) -> None:
    assert len(set(SETS[name])) == len(SETS[name])
    assert set(SETS[name]) <= set(labels.EMOTIONS) or name == "RAF_DB_COMPOUND"


@pytest.mark.parametrize(
    ("name", "codes"),
    [  # the first letters, typed from the sets' own documents
        ("RAF_DB", "su fe di ha sa an ne"),
        ("RAF_DB_COMPOUND", "ha ha sa sa sa sa fe fe an an di"),
        ("RAFD", "an co di fe ha ne sa su"),
        ("SFEW", "an di fe ha ne sa su"),
        ("AMFED_PLUS", "an co di fe ha sa su"),
        ("FER2013", "an di fe ha sa su ne"),
        ("FERPLUS", "ne ha su sa an di fe co"),
        ("CK_PLUS", "ne an co di fe ha sa su"),
        ("JAFFE", "an di fe ha ne sa su"),
        ("AFFECTNET", "ne ha sa su fe di an co"),
        ("EXPW", "an di fe ha sa su ne"),
        ("KDEF_PAPER", "su sa fe an ha di"),
    ],
)
def test_the_order_is_the_set_s(name: str, codes: str) -> None:
    assert [label[:2] for label in SETS[name]] == codes.split()


@pytest.mark.parametrize(
    ("word", "emotion"),
    [("Angry", "anger"), (" happy\n", "happiness"), ("FEAR", "fear"), ("Surprised", "surprise"),
     ("contemptuous", "contempt"), ("bored", None), ("", None)],
)  # fmt: skip
def test_words_for_emotions(word: str, emotion: str | None) -> None:
    assert labels.named(word) == emotion


def test_classes_of_one_set_in_another_s_order() -> None:
    assert labels.label_map(labels.SFEW, labels.RAF_DB) == (5, 2, 1, 3, 6, 4, 0)
    to_seven = labels.label_map(labels.RAFD, labels.SFEW, unmapped="drop")
    assert to_seven == (0, None, 1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("source", "unmapped", "says"),
    [
        (labels.RAFD, "refuse", "found also contempt; exclude their images"),
        (("contempt",), "drop", "found also contempt"),
        (labels.SFEW, "drops", "expected 'refuse' or 'drop'.*did you mean 'drop'"),
    ],
)
def test_what_has_no_counterpart_is_an_explicit_choice(source, unmapped: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        labels.label_map(source, labels.SFEW, unmapped)
