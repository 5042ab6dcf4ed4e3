"""Smooths the probabilities of a person over time."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

METHOD = "exponential"


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """How probabilities are smoothed.

    Attributes:
      seconds: time constant: after this time an old frame weighs 1/e of a new one.
    """

    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the name of the method and its constant, for the outputs."""
        return {"method": METHOD, "seconds": self.seconds}

    def __str__(self) -> str:
        return f"{METHOD}, {self.seconds:g} s"


class Smoother:
    """The exponential moving average of each person of a video, for frames at any times.

    It uses earlier frames only, so that it works live, and lags behind by about the time constant.
    Each frame weighs as much as the time since the one before: a constant frame rate and a variable
    one give the same curve.

    Args:
      smoothing: the time constant.
    """

    def __init__(self, smoothing: Smoothing) -> None:
        self._constant = smoothing.seconds
        self._states: dict[int, tuple[float, np.ndarray]] = {}

    def update(self, person: int, seconds: float, probabilities: np.ndarray) -> np.ndarray:
        """Returns the smoothed probabilities float64[C] of a person at a time that rises."""
        new = np.asarray(probabilities, np.float64)
        if person in self._states:
            earlier, old = self._states[person]
            new = new + (old - new) * math.exp(-(seconds - earlier) / self._constant)
        self._states[person] = (seconds, new)
        return new

    def forget(self, persons: set[int]) -> None:
        """Drops the state of people who will not come back."""
        for person in persons & self._states.keys():
            del self._states[person]
