"""Smooths the probabilities of each person of a video over time."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

METHOD = "exponential"

_FORGOTTEN = 20.0  # time constants after which a frame weighs nothing (2e-9)


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """How probabilities are smoothed.

    Attributes:
      seconds: time constant, above 0: after this time a frame weighs 1/e of a new one.
    """

    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the name of the method and its constant."""
        return {"method": METHOD, "seconds": self.seconds}

    def __str__(self) -> str:
        return f"{METHOD} {self.seconds:g} s"


class Smoother:
    """Exponential moving average of each track, for frames at any times.

    It uses earlier frames only, so that it works live, and lags by about the time constant. A frame
    weighs as much as the time since the one before, so that the curve does not depend on the frame
    rate.

    Args:
      smoothing: the time constant.
    """

    def __init__(self, smoothing: Smoothing) -> None:
        self._constant = smoothing.seconds
        self._states: dict[int, tuple[float, np.ndarray]] = {}

    def update(self, track: int, seconds: float, probabilities: np.ndarray) -> np.ndarray:
        """Returns the smoothed probabilities float64[C] of a track at a time that rises."""
        new = np.asarray(probabilities, np.float64)
        if track in self._states:
            earlier, old = self._states[track]
            new = new + (old - new) * math.exp(-(seconds - earlier) / self._constant)
        else:  # drops the tracks that have ended
            limit = seconds - _FORGOTTEN * self._constant
            self._states = {key: state for key, state in self._states.items() if state[0] > limit}
        self._states[track] = (seconds, new)
        return new
