"""The eight basic emotions, and which of them each data set has, in which order.

The order of a set is the index order of its labels in the paper's tables (where
the paper uses the set) or in the set's own files. Nothing else in the project
spells out class names. What files look like is not known here.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from fer_jax.errors import UserError

NEUTRAL = "neutral"
HAPPINESS = "happiness"
SADNESS = "sadness"
SURPRISE = "surprise"
FEAR = "fear"
DISGUST = "disgust"
ANGER = "anger"
CONTEMPT = "contempt"

EMOTIONS: tuple[str, ...] = (
    NEUTRAL, HAPPINESS, SADNESS, SURPRISE, FEAR, DISGUST, ANGER, CONTEMPT,
)  # fmt: skip
"""Ekman's six, neutral and contempt: the vocabulary of every set here."""

SEVEN: tuple[str, ...] = EMOTIONS[:7]
"""All but contempt: what most sets code."""

KDEF_PAPER: tuple[str, ...] = (SURPRISE, SADNESS, FEAR, ANGER, HAPPINESS, DISGUST)
"""KDEF as in the paper: neutral dropped, the order of its section on the data."""

KDEF: tuple[str, ...] = SEVEN
"""KDEF's seven expressions."""

RAFD: tuple[str, ...] = (
    ANGER, CONTEMPT, DISGUST, FEAR, HAPPINESS, NEUTRAL, SADNESS, SURPRISE,
)  # fmt: skip
"""RaFD: the paper's table, which is alphabetical in the set's own words (angry ... surprised)."""

RAF_DB: tuple[str, ...] = (SURPRISE, FEAR, DISGUST, HAPPINESS, SADNESS, ANGER, NEUTRAL)
"""RAF-DB: its label file's 1 to 7, which are the paper's 0 to 6."""

SFEW: tuple[str, ...] = (ANGER, DISGUST, FEAR, HAPPINESS, NEUTRAL, SADNESS, SURPRISE)
"""SFEW 2.0: the paper's table, the alphabetical order of the set's folders."""

AMFED_PLUS: tuple[str, ...] = (ANGER, CONTEMPT, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE)
"""AM-FED+ as in the paper; the set has no emotion labels, these are derived ones."""

FER2013: tuple[str, ...] = (ANGER, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE, NEUTRAL)
"""FER2013: 0 to 6 of fer2013.csv."""

FERPLUS: tuple[str, ...] = (
    NEUTRAL, HAPPINESS, SURPRISE, SADNESS, ANGER, DISGUST, FEAR, CONTEMPT,
)  # fmt: skip
"""FER+: the columns of fer2013new.csv, without unknown and NF."""

CK_PLUS: tuple[str, ...] = (
    NEUTRAL, ANGER, CONTEMPT, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE,
)  # fmt: skip
"""CK+: 0 to 7 of its emotion files."""

JAFFE: tuple[str, ...] = (ANGER, DISGUST, FEAR, HAPPINESS, NEUTRAL, SADNESS, SURPRISE)
"""JAFFE: its two-letter codes in alphabetical order (AN DI FE HA NE SA SU)."""

AFFECTNET: tuple[str, ...] = (
    NEUTRAL, HAPPINESS, SADNESS, SURPRISE, FEAR, DISGUST, ANGER, CONTEMPT,
)  # fmt: skip
"""AffectNet: 0 to 7 of its expression column."""

EXPW: tuple[str, ...] = FER2013
"""ExpW: 0 to 6 of label.lst, FER2013's codes."""

ALIASES: dict[str, str] = {
    "neutrality": NEUTRAL,
    "natural": NEUTRAL,
    "happy": HAPPINESS,
    "happines": HAPPINESS,
    "joy": HAPPINESS,
    "sad": SADNESS,
    "surprised": SURPRISE,
    "suprise": SURPRISE,
    "afraid": FEAR,
    "fearful": FEAR,
    "disgusted": DISGUST,
    "angry": ANGER,
    "contemptuous": CONTEMPT,
}
"""Other words for the emotions, as the sets and their copies write them."""


def named(text: str) -> str | None:
    """The emotion that a word stands for, in any case of its letters; None if none."""
    word = text.strip().lower()
    return word if word in EMOTIONS else ALIASES.get(word)


def label_map(
    source: Sequence[str], target: Sequence[str], unmapped: str = "refuse"
) -> tuple[int | None, ...]:
    """Index of each source class among the target's classes, for use across data sets.

    Args:
      source: classes of the data, in index order.
      target: classes of the network (or another set), in index order.
      unmapped: what becomes of a source class that the target has not: "refuse" raises,
        "drop" gives None, so that its pictures are left out.

    Returns:
      One target index, or None, for each source class.

    Raises:
      UserError: another value of `unmapped`; a class without counterpart where that is
        refused; not one class in common.
    """
    if unmapped not in ("refuse", "drop"):
        near = difflib.get_close_matches(unmapped, ("refuse", "drop"), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"expected 'refuse' or 'drop' for unmapped, found {unmapped!r}{hint}")
    index = {name: number for number, name in enumerate(target)}
    mapped = tuple(index.get(name) for name in source)
    missing = [name for name, number in zip(source, mapped, strict=True) if number is None]
    if len(missing) == len(source) or (missing and unmapped == "refuse"):
        raise UserError(
            f"expected classes among {', '.join(target)}, found also {', '.join(missing)}; "
            "leave their pictures out with unmapped='drop', or choose data with these classes"
        )
    return mapped
