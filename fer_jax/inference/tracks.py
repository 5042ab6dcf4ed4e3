"""Follows people over the frames of a video: which faces belong to one person.

A face continues the track of a person by its place (a box moved on at the speed of the last frames)
and its appearance. After a cut between shots, and for people who were out of view, appearance alone
decides. Assignments are optimal for each frame (Hungarian algorithm); a face that fits no track
starts one. No faces are detected here, and pixels are not kept.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from fer_jax.inference import appearance

Box = tuple[int, int, int, int]

MAX_TRACKS = 200
"""People who are remembered; of more, those who were seen last."""

# Chosen on the rendered clips of `benchmarks.tracking` with seed 1, and "cuts" with seed 2.
_SAME, _SAME_LATER = 16.0, 19.0  # largest `appearance.distance` in one shot, and between shots
_NEAR_SECONDS, _NEAR_FRAMES = 0.4, 2.5  # how long the place of a face says where it is next
_MARGIN = 0.2  # room at both sides of the face of a new person, in sides of the box
_ENTRY_SECONDS = 1.0  # how long a new person may stay at the border
_HIDDEN_SECONDS = 5.0  # how long a person may be behind something
_COAST_SECONDS = 0.5  # how long it is taken to move on
_NEAR = 0.9  # distance, in sides of the box, at which a face may be the next of a track
_NEAR_LIMIT = 1.6  # sum of both distances, of 1 each, up to which a face continues a track
_NEAR_GROWTH = 1.2  # the same, per second since the track's last frame
_SPEED_TOO_OLD = 1.5  # seconds
_SPEED_SECONDS = 0.25  # time constant of the speed
_LOOKS = 16  # descriptions of a person that are remembered
_NEW_LOOK = 0.4  # a description this far, of 1, from all is remembered as well
_UNKNOWN = 1.01  # distance of a face to a person of whom no description is remembered
_TOUCHING = 0.15  # intersection over union of boxes that hide each other in part
_CUT = 18.0  # mean change of a pixel of the thumbnail, gray levels
_CUT_RATIO = 3.0  # and times the mean of the frames before
_THUMBNAIL = (32, 18)  # pixels
_IMPOSSIBLE = 1e6


class CutDetector:
    """Finds cuts between shots: frames whose thumbnails change far more than those before."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._usual = 0.0

    def is_cut(self, image: np.ndarray) -> bool:
        """Whether the next frame, uint8[H, W, 3], begins another shot."""
        small = cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        if last is None:
            return False
        change = float(np.abs(small - last).mean())
        if change > max(_CUT, _CUT_RATIO * self._usual):
            return True
        self._usual += 0.1 * (change - self._usual)
        return False


class _Track:
    """A person who was seen.

    Attributes:
      number: from 1, in the order of appearance; None until it is clear who it is.
      box: float[4], the last box: x, y, width, height.
      seconds: when that was.
      shot: number of the shot that it was in.
    """

    def __init__(self, box: np.ndarray, seconds: float, shot: int) -> None:
        self.number: int | None = None
        self.box, self.seconds, self.shot = box, seconds, shot
        self._start = seconds
        self._speed = np.zeros(2)  # of the center, pixels per second
        # Descriptions that differ from each other, and their shots.
        self._looks: collections.deque[tuple[np.ndarray, int]] = collections.deque(maxlen=_LOOKS)

    def age(self) -> float:
        """Seconds since the track began."""
        return self.seconds - self._start

    def look_distance(self, look: np.ndarray, shot: int) -> float:
        """How different a face is from the most similar one of the person; 1 is the limit."""
        if not self._looks:  # never seen without another face in front
            return _UNKNOWN
        known, shots = zip(*self._looks, strict=True)
        same_light = np.array(shots) == shot
        distances = appearance.distance(look, np.stack(known), same_light)
        return float((distances / np.where(same_light, _SAME, _SAME_LATER)).min())

    def place_distance(self, box: np.ndarray, seconds: float) -> float:
        """How far a box is from where the person should be by now; 1 is the limit."""
        elapsed = seconds - self.seconds
        moved = _center(self.box) + self._speed * min(elapsed, _COAST_SECONDS)
        side = math.sqrt(self.box[2:].mean() * box[2:].mean())
        shift = float(np.linalg.norm(_center(box) - moved)) / side
        growth = abs(math.log(box[2:].mean() / self.box[2:].mean()))
        return math.hypot(shift, growth) / (_NEAR + _NEAR_GROWTH * elapsed)

    def move(self, box: np.ndarray, seconds: float, shot: int) -> None:
        """Continues the track."""
        elapsed = seconds - self.seconds
        if shot == self.shot and 0 < elapsed < _SPEED_TOO_OLD:
            speed = (_center(box) - _center(self.box)) / elapsed
            self._speed += (speed - self._speed) * (1 - math.exp(-elapsed / _SPEED_SECONDS))
        elif elapsed:
            self._speed = np.zeros(2)
        self.box, self.seconds, self.shot = box, seconds, shot

    def remember(self, look: np.ndarray, shot: int) -> None:
        """Remembers a description that differs from the others."""
        if not self._looks or self.look_distance(look, shot) > _NEW_LOOK:
            self._looks.append((look, shot))


class Tracker:
    """The people of one video. Frames come in order, at any times.

    Memory is bounded by `MAX_TRACKS` people.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._count = self._shot = 0
        self._interval = self._last = 0.0  # seconds

    def update(
        self,
        seconds: float,
        boxes: Sequence[Box],
        looks: Sequence[np.ndarray],
        size: tuple[int, int],
        is_cut: bool = False,
    ) -> list[int | None]:
        """Returns the track number of each face of the next frame, from 1.

        A face at the border that continues no track has none, until more of the person is seen or
        a second has passed.

        Args:
          seconds: time of the frame.
          boxes: x, y, width, height of each face.
          looks: what `appearance.describe` returns for each face.
          size: width and height of the frame.
          is_cut: whether the frame begins another shot.
        """
        self._shot += is_cut
        self._interval, self._last = seconds - self._last, seconds
        places = [np.array(box, np.float64) for box in boxes]
        costs = self._near_costs(seconds, places, looks)
        found = {column: self._tracks[row] for row, column in _assignment(costs, _NEAR_LIMIT)}
        for index, place in enumerate(places):
            if index not in found:
                found[index] = _Track(place, seconds, self._shot)
                self._tracks.append(found[index])
            found[index].move(place, seconds, self._shot)
        self._identify(found, looks, size)
        for index, place in enumerate(places):
            others = (other for number, other in enumerate(places) if number != index)
            if not any(_overlap(place, other) > _TOUCHING for other in others):
                found[index].remember(looks[index], self._shot)
        self._tracks = [
            track for track in self._tracks if track.number or self._is_recent(track, seconds)
        ]
        self._tracks = sorted(self._tracks, key=lambda track: -track.seconds)[:MAX_TRACKS]
        return [found[index].number for index in range(len(places))]

    def _near_costs(
        self, seconds: float, places: Sequence[np.ndarray], looks: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Costs float[T, N] by place and appearance, for people who were here just now."""
        costs = np.full((len(self._tracks), len(places)), _IMPOSSIBLE)
        for row, track in enumerate(self._tracks):
            if track.shot != self._shot or not self._is_recent(track, seconds):
                continue
            for column, (place, look) in enumerate(zip(places, looks, strict=True)):
                far = track.place_distance(place, seconds)
                unlike = track.look_distance(look, self._shot)
                # Something in front changes a face's colors for a moment.
                if far < 1 and unlike < 2:
                    costs[row, column] = far + unlike
        return costs

    def _is_recent(self, track: _Track, seconds: float) -> bool:
        """Whether the place of a track says who is there now."""
        return seconds - track.seconds <= max(_NEAR_SECONDS, _NEAR_FRAMES * self._interval)

    def _identify(
        self, found: dict[int, _Track], looks: Sequence[np.ndarray], size: tuple[int, int]
    ) -> None:
        """Gives new tracks that are seen well the number of a person known, or the next one."""
        seen = set(map(id, found.values()))
        known = [track for track in self._tracks if track.number and id(track) not in seen]
        new = [
            index
            for index, track in found.items()
            if track.number is None and (not known or _is_seen_well(index, found, size))
        ]
        costs = np.zeros((len(known), len(new)))
        for row, track in enumerate(known):
            for column, index in enumerate(new):
                costs[row, column] = track.look_distance(looks[index], self._shot)
        for row, column in _assignment(costs, 1.0):
            index, track = new[column], known[row]
            self._tracks.remove(found[index])
            track.move(found[index].box, found[index].seconds, self._shot)
            found[index] = track
        for index in new:
            track = found[index]
            if track.number is None and not self._may_be_hidden(track, known):
                self._count += 1
                track.number = self._count

    def _may_be_hidden(self, new: _Track, known: Sequence[_Track]) -> bool:
        """Whether a face may be of a person who was here and is still half behind something."""
        return new.age() < _ENTRY_SECONDS and any(
            track.shot == self._shot
            and new.seconds - track.seconds < _HIDDEN_SECONDS
            and track.place_distance(new.box, new.seconds) < 1
            for track in known
        )


def _is_seen_well(index: int, found: Mapping[int, _Track], size: tuple[int, int]) -> bool:
    """Whether a head is inside a frame of `size` and beside all others, or will never be."""
    track = found[index]
    if track.age() >= _ENTRY_SECONDS:
        return True
    margin = _MARGIN * track.box[2]
    left, right = track.box[0] - margin, track.box[0] + track.box[2] + margin
    others = (other.box for number, other in found.items() if number != index)
    is_free = all(right < box[0] or box[0] + box[2] < left for box in others)
    return is_free and left >= 0 and right <= size[0]


def _assignment(costs: np.ndarray, limit: float) -> Iterator[tuple[int, int]]:
    """Yields row and column of the pairs of the cheapest assignment.

    Args:
      costs: float[T, N].
      limit: cost of a column without a row. Without it, one good pair would be given up for two
        poor ones.
    """
    from scipy.optimize import linear_sum_assignment  # half a second; only videos need it

    alone = np.full((costs.shape[1], costs.shape[1]), limit)
    for row, column in zip(*linear_sum_assignment(np.vstack([costs, alone])), strict=True):
        if row < len(costs):
            yield int(row), int(column)


def _center(box: np.ndarray) -> np.ndarray:
    return box[:2] + box[2:] / 2


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the intersection over union of two boxes."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod((high - low).clip(0)))
    return shared / (float(np.prod(first[2:]) + np.prod(second[2:])) - shared)
