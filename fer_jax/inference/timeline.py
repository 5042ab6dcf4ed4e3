"""What the people of one video showed, and when: statistics and a timeline of each track.

A frame counts for the time until the next one, so that a variable frame rate changes no share.
Memory grows with the number of people, not with the length of the video: the timeline has at most
`MAX_BINS` bins, whose width doubles when they are full. Nothing is written here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fer_jax.inference.results import Face, Prediction
from fer_jax.inference.sources import Frame

MAX_BINS = 1200
"""Bins of a timeline; about the pixels of a wide window."""

MAX_GAP = 1.0
"""Seconds out of view after which a person's expression counts as a new one, not as a change."""

_FIRST_WIDTH = 0.1  # seconds of a bin
_MAX_HOLD = 1.0  # seconds for which a frame counts at most, where a camera or a stream stood still
_MAX_HOLD_FRAMES = 3.0  # or frames, for recordings with less than a frame per second
_PORTRAIT = 96  # pixels
_MARGIN = 0.3  # around the face of a portrait, in sides of the box
_BETTER = 1.2  # a portrait is replaced by one that much larger


class Observation(NamedTuple):
    """A person in a frame.

    Attributes:
      track: number.
      label: index of the shown class.
      probabilities: float[C], smoothed if that was asked for.
    """

    track: int
    label: int
    probabilities: np.ndarray


@dataclasses.dataclass(eq=False)
class Track:
    """What one person showed. `C` is the number of classes.

    Attributes:
      number: from 1, as in predictions.csv.
      first, last: seconds at which the first frame begins and the last one ends.
      frames: number of frames with the person.
      seconds: float[C], time of each class.
      stretches: int[C], how many times each class began.
      changes: from one class to another, without a gap of more than `MAX_GAP`.
      confidence_seconds: probability of the shown class times seconds.
      bins: by index, float[2, C]: seconds of each class, and probability times seconds.
      portrait: JPEG of the face, or b"".
    """

    number: int
    first: float
    last: float
    seconds: np.ndarray
    stretches: np.ndarray
    frames: int = 0
    changes: int = 0
    confidence_seconds: float = 0.0
    bins: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    portrait: bytes = dataclasses.field(default=b"", repr=False)
    _label: int = -1
    _seen: float = 0.0
    _portrait_side: float = 0.0

    @property
    def total(self) -> float:
        """Seconds for which the person was seen."""
        return float(self.seconds.sum())

    @property
    def shares(self) -> np.ndarray:
        """Share of each class by time, float[C]."""
        return self.seconds / max(self.total, 1e-9)

    @property
    def confidence(self) -> float:
        """Mean probability of the shown class, by time."""
        return self.confidence_seconds / max(self.total, 1e-9)

    @property
    def changes_per_minute(self) -> float:
        """Changes per minute in view."""
        return self.changes / max(self.total / 60, 1e-9)

    @property
    def dwell(self) -> np.ndarray:
        """Mean seconds for which each class lasts, float[C]; not a number if it never occurs."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.stretches > 0, self.seconds / self.stretches, np.nan)

    def see(self, seconds: float, label: int) -> None:
        """Counts a frame."""
        is_gap = not self.frames or seconds - self._seen > MAX_GAP
        if is_gap or label != self._label:
            self.stretches[label] += 1
            self.changes += not is_gap
        self.frames += 1
        self._label, self._seen = label, seconds

    def show(self, image: np.ndarray, face: Face) -> None:
        """Keeps a portrait if the face is the largest so far."""
        x, y, width, height = face.box
        side = max(width, height)
        if x <= 0 or x + width >= image.shape[1]:  # half out of view
            side //= 2
        if side < _BETTER * self._portrait_side:
            return
        margin, reach = int(_MARGIN * max(width, height)), max(width, height)
        left, top = max(0, x - margin), max(0, y - margin)
        part = image[top : y + reach + margin, left : x + reach + margin]
        if not part.size:
            return
        scale = _PORTRAIT / max(part.shape[:2])
        small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self.portrait = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()
        self._portrait_side = float(side)


class Timeline:
    """The tracks of one video, camera or stream.

    Args:
      labels: names of the C classes, in index order.

    Attributes:
      tracks: by number.
      width: seconds of a bin.
      end: seconds at which the last frame ends.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self.tracks: dict[int, Track] = {}
        self.width, self.end = _FIRST_WIDTH, 0.0
        self._rate = 0.0
        self._held: tuple[float, list[Observation]] | None = None

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Adds the next frame. Faces without a track are left out."""
        assert frame.seconds is not None, "expected a frame of a video, found an image"
        self._release(frame.seconds)
        self._rate = frame.rate
        observations = []
        for face in prediction.faces:
            if face.track is None:
                continue
            values = face.smoothed or face.probabilities
            label = self.labels.index(face.top()[0])
            observation = Observation(face.track, label, np.array(list(values.values())))
            track = self._track(face.track, frame.seconds)
            track.see(frame.seconds, label)
            track.show(frame.image, face)
            observations.append(observation)
        self._held = (frame.seconds, observations)

    def finish(self) -> None:
        """Counts the last frame for one frame of the video's rate."""
        if self._held is not None:
            self._release(self._held[0] + 1 / (self._rate or 1.0))
            self._held = None

    def _track(self, number: int, seconds: float) -> Track:
        if number not in self.tracks:
            count = len(self.labels)
            zeros = np.zeros(count), np.zeros(count, int)
            self.tracks[number] = Track(number, seconds, seconds, *zeros)
        return self.tracks[number]

    def _release(self, now: float) -> None:
        """Counts the held frame until the next one, which is `now`."""
        if self._held is None:
            return
        start, observations = self._held
        longest = max(_MAX_HOLD, _MAX_HOLD_FRAMES / (self._rate or 1.0))
        duration = min(max(now - start, 0.0), longest)
        self.end = start + duration
        while self.end >= MAX_BINS * self.width:
            self._halve()
        for observation in observations:
            track = self.tracks[observation.track]
            track.last = self.end
            track.seconds[observation.label] += duration
            track.confidence_seconds += float(observation.probabilities.max()) * duration
            self._fill(track, observation, start, duration)

    def _fill(self, track: Track, seen: Observation, start: float, duration: float) -> None:
        """Distributes a frame over the bins that it lasts through."""
        end = start + duration
        for index in range(int(start / self.width), int(end / self.width) + 1):
            low, high = max(start, index * self.width), min(end, (index + 1) * self.width)
            if high > low:
                empty = np.zeros((2, len(self.labels)))
                content = track.bins.setdefault(index, empty)
                content[0, seen.label] += high - low
                content[1] += seen.probabilities * (high - low)

    def _halve(self) -> None:
        """Merges bins in pairs."""
        self.width *= 2
        for track in self.tracks.values():
            merged: dict[int, np.ndarray] = {}
            for index, content in track.bins.items():
                merged[index // 2] = merged.get(index // 2, 0) + content
            track.bins = merged
