"""Parses AM-FED+'s landmark files: 34 points per frame, time in milliseconds.

The points are those of Affectiva's tracker. The eye indices are from public code that reads
the set; nose tip and mouth corners are inferred from the numbering of Affectiva's SDK,
because no document of the set defines them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fer_jax import errors

POINTS = 34
TIME = "TimeStamp(msec)"
HEADER: tuple[str, ...] = (
    TIME, *(f"pt_affdex_tracker_{one}" for one in range(2 * POINTS))
)  # fmt: skip
"""Even columns are x, odd ones y, in pixels of the frame."""

# Outer and inner corner, upper and lower lid.
EYES = ((16, 17, 30, 31), (18, 19, 32, 33))
NOSE_TIP = 12
MOUTH_CORNERS = (20, 24)

_MIN_EXTENT = 8.0  # pixels: a smaller extent is not a face, such as points of all zeros


@dataclasses.dataclass(frozen=True)
class Track:
    """The landmarks of one video, parsed on demand.

    Attributes:
      times: time of each frame in seconds, in the order of the file.
      lines: the unparsed row of each frame.
    """

    times: tuple[float, ...]
    lines: tuple[str, ...]

    def points(self, row: int) -> np.ndarray | None:
        """float32[34, 2] of a frame, x and y in pixels; None if the tracker found no face."""
        cells = [_number(cell) for cell in self.lines[row].split(",")[1:]]
        values = np.array(cells[: 2 * POINTS], np.float32)
        if len(values) < 2 * POINTS or not np.isfinite(values).all():
            return None
        points = values.reshape(POINTS, 2)
        return points if np.ptp(points, axis=0).min() >= _MIN_EXTENT else None

    def nearest(self, time: float, tolerance: float) -> np.ndarray | None:
        """`points` of the frame nearest to `time`, if within `tolerance` (both in seconds)."""
        if not self.times:
            return None
        row = int(np.abs(np.array(self.times) - time).argmin())
        return self.points(row) if abs(self.times[row] - time) <= tolerance else None


def parse(text: str, name: str) -> Track:
    """Parses a landmark file, which may be empty.

    Args:
      text: content of the file.
      name: name of the file, for messages.

    Raises:
      errors.UserError: The header is unknown, or a time is not a number.
    """
    lines = [line for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
    if not lines:
        return Track((), ())
    _check_header([cell.strip() for cell in lines[0].split(",")], name)
    times = [_number(line.split(",", 1)[0]) / 1000.0 for line in lines[1:]]
    if not np.isfinite(times).all():
        first = next(row for row, time in enumerate(times) if not np.isfinite(time))
        raise errors.UserError(
            f"expected each row to start with a time in milliseconds, found "
            f"{lines[first + 1][:60]!r} in {name}, line {first + 2}. Restore the original file."
        )
    return Track(tuple(times), tuple(lines[1:]))


def box(points: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, width, height of the box around `points` (float32[34, 2]), from brows to chin."""
    left, top = np.floor(points.min(0)).astype(int)
    right, bottom = np.ceil(points.max(0)).astype(int)
    return int(left), int(top), int(right - left), int(bottom - top)


def five(points: np.ndarray) -> np.ndarray:
    """float32[5, 2] of `points` (float32[34, 2]): eyes, nose tip, mouth corners, image left first.

    Also for mirrored videos.
    """
    eyes = np.stack([points[list(eye)].mean(0) for eye in EYES])
    corners = points[list(MOUTH_CORNERS)]
    ordered = [pair[np.argsort(pair[:, 0], kind="stable")] for pair in (eyes, corners)]
    return np.concatenate([ordered[0], points[[NOSE_TIP]], ordered[1]])


def _check_header(header: list[str], name: str) -> None:
    expected = [one.casefold() for one in HEADER[1:]]
    found = [one.casefold() for one in header[1 : 2 * POINTS + 1]]
    if "time" not in header[0].casefold() or found != expected:
        raise errors.UserError(
            f"expected AM-FED+'s landmark header in {name} ({TIME}, {HEADER[1]} ... "
            f"{HEADER[-1]}), found {','.join(header)[:100]}. Restore the original file."
        )


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
