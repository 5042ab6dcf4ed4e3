"""The eight basic emotions, and which of them each data set has, in which order.

The order of a set is the index order of its labels in the paper's tables (where
the paper uses the set) or in the set's own files. Nothing else in the project
spells out class names.
"""

from __future__ import annotations

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
