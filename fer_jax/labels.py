"""The eight emotions, and the classes of each data set in index order.

The order is that of the paper's tables if the paper uses the set, else of the set's files. No
other module spells out class names. Reading label files is up to the builders.
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
"""Ekman's six, neutral and contempt: the classes of the sets are among them, except for pairs."""

OTHER = "other"
"""AM-FED+: a coded face that shows none of the emotions, or several. Not an emotion."""

SEVEN: tuple[str, ...] = EMOTIONS[:7]
"""All but contempt: the classes of most sets."""

KDEF_PAPER: tuple[str, ...] = (SURPRISE, SADNESS, FEAR, ANGER, HAPPINESS, DISGUST)
"""KDEF as in the paper: without neutral, in the order of its data section."""

KDEF: tuple[str, ...] = SEVEN
"""KDEF's seven expressions."""

RAFD: tuple[str, ...] = (
    ANGER, CONTEMPT, DISGUST, FEAR, HAPPINESS, NEUTRAL, SADNESS, SURPRISE,
)  # fmt: skip
"""RaFD: the paper's table, alphabetical by the set's words (angry ... surprised)."""

RAF_DB: tuple[str, ...] = (SURPRISE, FEAR, DISGUST, HAPPINESS, SADNESS, ANGER, NEUTRAL)
"""RAF-DB: 1 to 7 in its label file, 0 to 6 in the paper."""

RAF_DB_COMPOUND: tuple[str, ...] = (
    "happily_surprised", "happily_disgusted", "sadly_fearful", "sadly_angry", "sadly_surprised",
    "sadly_disgusted", "fearfully_angry", "fearfully_surprised", "angrily_surprised",
    "angrily_disgusted", "disgustedly_surprised",
)  # fmt: skip
"""RAF-DB's compound part, pairs of emotions: 1 to 11 in its label file."""

SFEW: tuple[str, ...] = (ANGER, DISGUST, FEAR, HAPPINESS, NEUTRAL, SADNESS, SURPRISE)
"""SFEW 2.0: the paper's table, the alphabetical order of the set's folders."""

AMFED_PLUS: tuple[str, ...] = (ANGER, CONTEMPT, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE)
"""AM-FED+ as in the paper; derived, because the set has no emotion labels."""

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
"""Other spellings of the emotions, in the sets and in copies of them."""


def named(text: str) -> str | None:
    """Returns the emotion that a word names, ignoring case; None if it names none."""
    word = text.strip().lower()
    return word if word in EMOTIONS else ALIASES.get(word)


def label_map(
    source: Sequence[str], target: Sequence[str], unmapped: str = "refuse"
) -> tuple[int | None, ...]:
    """Maps each source class to its index among the target classes, for use across data sets.

    Args:
      source: classes of the data, in index order.
      target: classes of the network (or another set), in index order.
      unmapped: for a source class that is not a target class: "refuse" raises an error, "drop"
        returns None, to exclude its images.

    Returns:
      A target index or None for each source class.

    Raises:
      UserError: another value of `unmapped`; an unmapped class with "refuse"; no class in common.
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
            "exclude their images with unmapped='drop', or choose data with these classes"
        )
    return mapped
