"""Random timelines for the stand-in's videos: action units over time, and their labels.

Every video shows all seven emotions briefly, so that a few videos have every class.
tfds_builders/stand_ins/amfed_plus.py renders the videos.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fer_jax import labels
from tfds_builders.amfed_plus import au_labels

FAIL = "fail"  # the tracker lost the face
MIXED = "mixed"  # matches two prototypes
OTHER = "other"  # matches no prototype

CODED: dict[str, tuple[tuple[str, ...], ...]] = {
    labels.ANGER: (("AU04", "AU17"), ("AU04", "AU05")),
    labels.CONTEMPT: (("Unilateral_LAU14",), ("Unilateral_RAU12", "Unilateral_RAU14")),
    labels.DISGUST: (("AU09", "AU10"), ("AU10", "AU04")),
    labels.FEAR: (("AU02", "AU04", "AU05"), ("AU02", "AU04", "AU26")),
    labels.HAPPINESS: (("Smile",), ("Smile", "AU02")),
    labels.SADNESS: (("AU15", "AU17"), ("AU15", "AU04")),
    labels.SURPRISE: (("AU02", "AU05", "AU26"), ("AU02", "AU26")),
    MIXED: (("AU02", "AU04", "AU05", "AU09"),),
    OTHER: (("AU18",), ("Smile", "AU15")),
    FAIL: (("Trackerfail", "Smile"),),
}
"""The alternative sets of coded units for each emotion."""

RENDERED: dict[str, Mapping[str, float]] = {
    labels.ANGER: {"AU4": 1.1, "AU5": 0.5, "AU7": 0.7, "AU17": 0.6, "AU23": 0.8},
    labels.CONTEMPT: {"AU14L": 1.1, "AU12L": 0.6},
    labels.DISGUST: {"AU9": 1.0, "AU10": 0.8, "AU4": 0.3},
    labels.FEAR: {"AU1": 0.9, "AU2": 0.8, "AU4": 0.7, "AU5": 1.0, "AU20": 0.9, "AU25": 0.6},
    labels.HAPPINESS: {"AU6": 0.9, "AU12": 1.1, "AU25": 0.6},
    labels.NEUTRAL: {},
    labels.SADNESS: {"AU1": 1.0, "AU4": 0.5, "AU15": 1.0, "AU17": 0.7},
    labels.SURPRISE: {"AU1": 1.0, "AU2": 1.0, "AU5": 0.9, "AU26": 1.0},
}
"""Strengths of the renderer's action units; other entries of `CODED` are rendered as neutral."""

_REST, _HOLD, _EDGE = 0.35, 0.6, 0.12  # seconds between expressions, at the peak, of onset/offset
_STEP = (0.045, 0.14)  # seconds between frames: a variable rate
_STALL = 0.3  # seconds of a webcam stall
_STALLS = 0.02  # fraction of the frames followed by a stall


@dataclasses.dataclass(frozen=True)
class Showing:
    """One expression: entry of `CODED`, coded columns, start and end in seconds."""

    name: str
    columns: tuple[str, ...]
    start: float
    end: float

    def strength(self, time: float) -> float:
        """Intensity from 0 to 1 at `time` (seconds), with linear onset and offset."""
        inside = min(time - self.start, self.end - time)
        return float(np.clip(inside / _EDGE, 0.0, 1.0))


def showings(rng: np.random.Generator, extra: Sequence[str] = ()) -> list[Showing]:
    """The seven emotions and `extra`, in random order, with pauses."""
    order = [*labels.AMFED_PLUS, *extra]
    rng.shuffle(order)
    shown, time = [], _REST
    for name in order:
        ways = CODED[name]
        end = time + _HOLD + 2 * _EDGE
        shown.append(Showing(name, ways[int(rng.integers(len(ways)))], time, end))
        time = end + _REST
    return shown


def frame_times(rng: np.random.Generator, end: float) -> list[int]:
    """Times of frames from 0 to `end` (seconds), in milliseconds, at a variable rate."""
    times = [0.0]
    while times[-1] < end:
        stall = _STALL if rng.random() < _STALLS else 0.0
        times.append(times[-1] + stall + float(rng.uniform(*_STEP)))
    return [round(time * 1000) for time in times]


def label_rows(
    shown: Sequence[Showing], rng: np.random.Generator
) -> Iterator[tuple[float, dict[str, float]]]:
    """Yields change points: a third of the coders see onset and offset, most see the peak."""
    yield 0.0, {}
    for showing in shown:
        peak = float(rng.choice([66.7, 75.0, 100.0]))
        for time, value in (
            (showing.start, 33.3),
            (showing.start + _EDGE, peak),
            (showing.end - _EDGE, 33.3),
            (showing.end, 0.0),
        ):
            yield time, dict.fromkeys(showing.columns, value) if value else {}


def columns_of(shown: Sequence[Showing], rng: np.random.Generator) -> list[str]:
    """The columns of a label file: the coded units, and some units that are never shown."""
    seen = {column for showing in shown for column in showing.columns}
    return [name for name in au_labels.COLUMNS if name in seen or rng.random() < 0.4]
