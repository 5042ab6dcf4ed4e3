"""What a network says of the faces in a picture: plain values for programs, CSV and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """One face and what the network says of it.

    Attributes:
      box: x, y, width, height in pixels of the picture.
      found: how the face was found: "haar", "profile", or "whole" where none was found and
        the whole picture was taken for one.
      label: the most probable class.
      probabilities: by class, in the order of the run's labels; they sum to 1.
      pixels: uint8[S, S, 3] RGB, what the network saw.
      heat: float32[S, S] in [0, 1], how much each place of `pixels` spoke for `label`
        (Grad-CAM); None if that was not asked for.
      square: x, y and side of `pixels` in the picture; it may reach over the border.
    """

    box: tuple[int, int, int, int]
    found: str
    label: str
    probabilities: Mapping[str, float]
    pixels: np.ndarray = dataclasses.field(repr=False)
    heat: np.ndarray | None = dataclasses.field(repr=False)
    square: tuple[int, int, int] = dataclasses.field(repr=False)

    @property
    def confidence(self) -> float:
        """The probability of `label`."""
        return self.probabilities[self.label]

    def to_json(self) -> dict[str, Any]:
        """All but the pixels, as plain values."""
        return {
            "box": list(self.box),
            "found": self.found,
            "label": self.label,
            "probabilities": dict(self.probabilities),
        }


@dataclasses.dataclass(frozen=True)
class Picture:
    """The faces of one picture.

    Attributes:
      source: its path; "" for an array.
      faces: the largest first; empty if there are none and the whole was not asked for.
    """

    source: str
    faces: tuple[Face, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"source": self.source, "faces": [face.to_json() for face in self.faces]}
