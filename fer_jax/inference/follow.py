"""Gives the faces of videos and cameras their track and, if wanted, smoothed probabilities.

Images pass through unchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable

import numpy as np

from fer_jax.inference import appearance
from fer_jax.inference.results import Face, Prediction
from fer_jax.inference.smoothing import Smoother, Smoothing
from fer_jax.inference.sources import Frame, Source, Unreadable
from fer_jax.inference.stream import FramePrediction
from fer_jax.inference.tracks import CutDetector, Tracker


class Follower:
    """Follows the people of successive frames; a new source has new people.

    Args:
      smoothing: how to smooth probabilities; None for not at all.
    """

    def __init__(self, smoothing: Smoothing | None = None) -> None:
        self._smoothing = smoothing
        self._source: Source | None = None

    def follow(self, frame: Frame, prediction: Prediction) -> Prediction:
        """Returns the prediction of the next frame with `Face.track` and `Face.smoothed`."""
        if frame.seconds is None:
            return prediction
        if frame.source != self._source:
            self._source = frame.source
            self._tracker, self._cuts = Tracker(), CutDetector()
            self._smoother = Smoother(self._smoothing) if self._smoothing else None
        boxes = [face.box for face in prediction.faces]
        looks = [appearance.describe(frame.image, box) for box in boxes]
        height, width = frame.image.shape[:2]
        is_cut = self._cuts.is_cut(frame.image)
        tracks = self._tracker.update(frame.seconds, boxes, looks, (width, height), is_cut)
        faces = (
            self._smoothed(dataclasses.replace(face, track=track), frame.seconds)
            for face, track in zip(prediction.faces, tracks, strict=True)
        )
        return dataclasses.replace(prediction, faces=tuple(faces))

    def _smoothed(self, face: Face, seconds: float) -> Face:
        if self._smoother is None:
            return face
        values = np.array(list(face.probabilities.values()))
        if face.track is not None:
            values = self._smoother.update(face.track, seconds, values)
        named = dict(zip(face.probabilities, map(float, values), strict=True))
        return dataclasses.replace(face, smoothed=named)


def follow_all(
    results: Iterable[FramePrediction | Unreadable],
    follow: Callable[[Frame, Prediction], Prediction],
) -> Generator[FramePrediction | Unreadable, None, None]:
    """Yields predictions with tracks, such as by `Follower.follow`, in order."""
    for result in results:
        if isinstance(result, Unreadable):
            yield result
        else:
            frame, prediction = result
            yield frame, follow(frame, prediction)
