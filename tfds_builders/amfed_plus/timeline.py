"""What the person in a video of the stand-in does: action units over time, and the labels.

All seven emotions, a moment each, so that a few videos have every class. Draws numbers
only; stand_in.py renders, films and writes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fer_jax import labels
from tfds_builders.amfed_plus import au_labels

FAIL = "fail"  # the tracker lost the face
MIXED = "mixed"  # what fits two prototypes
OTHER = "other"  # what fits none

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
"""What coders see, in the ways that a video may show it."""

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
"""Strength of the renderer's action units; what is not here is shown as neutral."""

_REST, _HOLD, _EDGE = 0.35, 0.6, 0.12  # seconds between, in, and at both ends of a showing
_STEP = (0.045, 0.14)  # seconds from frame to frame: no constant rate
_STALL = 0.3  # seconds that the webcam sometimes stops for
_STALLS = 0.02  # share of the frames behind which it does


@dataclasses.dataclass(frozen=True)
class Showing:
    """Something shown: what, which columns are coded for it, and when (seconds)."""

    name: str
    columns: tuple[str, ...]
    start: float
    end: float

    def strength(self, time: float) -> float:
        """0 outside, 1 in the middle, rising and falling at the ends."""
        inside = min(time - self.start, self.end - time)
        return float(np.clip(inside / _EDGE, 0.0, 1.0))


def showings(rng: np.random.Generator, extra: Sequence[str] = ()) -> list[Showing]:
    """The seven emotions, and `extra`, in a random order with rests between."""
    order = [*labels.AMFED_PLUS, *extra]
    rng.shuffle(order)
    found, time = [], _REST
    for name in order:
        ways = CODED[name]
        end = time + _HOLD + 2 * _EDGE
        found.append(Showing(name, ways[int(rng.integers(len(ways)))], time, end))
        time = end + _REST
    return found


def frame_times(rng: np.random.Generator, end: float) -> list[int]:
    """Milliseconds of the frames from 0 to `end` (seconds), at a rate that changes."""
    times = [0.0]
    while times[-1] < end:
        stall = _STALL if rng.random() < _STALLS else 0.0
        times.append(times[-1] + stall + float(rng.uniform(*_STEP)))
    return [round(time * 1000) for time in times]


def label_rows(
    shown: Sequence[Showing], rng: np.random.Generator
) -> Iterator[tuple[float, dict[str, float]]]:
    """Change points: a third of the coders sees it begin, most or all see it, and it ends."""
    yield 0.0, {}
    for one in shown:
        most = float(rng.choice([66.7, 75.0, 100.0]))
        for time, value in (
            (one.start, 33.3),
            (one.start + _EDGE, most),
            (one.end - _EDGE, 33.3),
            (one.end, 0.0),
        ):
            yield time, dict.fromkeys(one.columns, value) if value else {}


def columns_of(shown: Sequence[Showing], rng: np.random.Generator) -> list[str]:
    """The columns of a label file: what was seen, and some that were looked for in vain."""
    seen = {column for one in shown for column in one.columns}
    return [one for one in au_labels.COLUMNS if one in seen or rng.random() < 0.4]
