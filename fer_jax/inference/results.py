"""Prediction results as plain values, convertible to JSON and to a pandas table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_jax.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


UNCERTAIN = "uncertain"
"""The answer for a face whose top probability is below the threshold of `--abstain`."""

FRAME_COLUMNS = ("source", "face", "x", "y", "width", "height", "found", "label")
"""Columns of `to_frame`, before the probabilities."""


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """One classified face.

    Attributes:
      box: x, y, width, height in pixels of the image.
      found: detector that found the face, such as "haar", "profile" or "yunet"; "whole" if no
        face was detected and the whole image was classified; "given" if the image was passed as
        a face.
      label: most probable class.
      probabilities: probability by class name, in the order of the run's labels; they sum to 1.
      pixels: uint8[S, S, 3] RGB, the network's input before normalization.
      heat: float32[S, S] in [0, 1], Grad-CAM map of `label` over `pixels`; None unless requested.
      square: x, y and side of the image region shown in `pixels`; may extend past the border.
      track: number of the person in a video, from 1; None for images, and until it is clear who it
        is.
      smoothed: probabilities of the person smoothed over time; None unless requested.
      threshold: the top probability from which on the label is an answer; 0 always answers.
      units: probability of each facial action unit, by FACS name; None without that head.
      valence: pleasure in -1..1; None without that head.
      arousal: activation in -1..1; None without that head.
    """

    box: tuple[int, int, int, int]
    found: str
    label: str
    probabilities: Mapping[str, float]
    pixels: np.ndarray = dataclasses.field(repr=False)
    heat: np.ndarray | None = dataclasses.field(repr=False)
    square: tuple[int, int, int] = dataclasses.field(repr=False)
    track: int | None = None
    smoothed: Mapping[str, float] | None = None
    threshold: float = 0.0
    units: Mapping[str, float] | None = None
    valence: float | None = None
    arousal: float | None = None

    @property
    def further(self) -> dict[str, float]:
        """Answers of further heads by column of a table: unit_AU12, valence, arousal."""
        units = {f"unit_{name}": value for name, value in (self.units or {}).items()}
        affect = {"valence": self.valence, "arousal": self.arousal}
        return units | {name: value for name, value in affect.items() if value is not None}

    @property
    def confidence(self) -> float:
        """The probability of `label`."""
        return self.probabilities[self.label]

    @property
    def answer(self) -> str:
        """`label`, or `UNCERTAIN` below the threshold."""
        return self.label if self.confidence >= self.threshold else UNCERTAIN

    def top(self) -> tuple[str, float]:
        """Returns label and probability after smoothing, if any."""
        values = self.smoothed or self.probabilities
        label = max(values, key=values.__getitem__) if self.smoothed else self.label
        return label, values[label]

    def shown(self) -> tuple[str, float]:
        """As `top`, with `UNCERTAIN` for a label below the threshold."""
        label, probability = self.top()
        return (label if probability >= self.threshold else UNCERTAIN), probability

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values for everything except the pixels, the heat map and `square`."""
        content: dict[str, Any] = {
            "box": list(self.box),
            "found": self.found,
            "label": self.answer,
            "probabilities": dict(self.probabilities),
        }
        if self.units is not None:
            content["units"] = dict(self.units)
        if self.valence is not None:
            content |= {"valence": self.valence, "arousal": self.arousal}
        if self.track is not None:
            content["track"] = self.track
        if self.smoothed is not None:
            content["smoothed"] = dict(self.smoothed)
        return content


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The classified faces of one image.

    Attributes:
      source: path of the image; "" for an array.
      faces: the classified faces, largest first; empty if none was detected and classifying the
        whole image was turned off.
    """

    source: str
    faces: tuple[Face, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {"source": self.source, "faces": [face.to_json() for face in self.faces]}


def to_frame(predictions: Iterable[Prediction]) -> pd.DataFrame:
    """Makes a pandas table of predictions, with a row per face.

    Its columns are named as in the predictions.csv of `fer-jax predict`: source, face (its number
    in the image), x, y, width, height, found, label, probability_NAME for each class, and for a
    network with these heads unit_NAME for each action unit, valence and arousal. An image
    without faces has no row.

    Raises:
      UserError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UserError(
            "expected pandas for a table of predictions, found none; pip install pandas, or use "
            "prediction.to_json()"
        ) from None
    rows = []
    for prediction in predictions:
        for number, face in enumerate(prediction.faces):
            probabilities = {f"probability_{name}": p for name, p in face.probabilities.items()}
            values = (prediction.source, number, *face.box, face.found, face.label)
            row = dict(zip(FRAME_COLUMNS, values, strict=True))
            rows.append(row | probabilities | face.further)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(FRAME_COLUMNS))
