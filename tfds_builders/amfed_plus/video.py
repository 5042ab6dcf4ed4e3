"""Reads video frames by time: decodes each video once, a few videos ahead, on all cores.

Frames are selected by the decoder's timestamps, because the frame rate is variable. Of a
damaged video, only the intact frames are used: FFmpeg would conceal the missing data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path

import cv2
import numpy as np

from fer_jax.faces.decode import MAX_PIXELS, UnreadableError
from tfds_builders import sources
from tfds_builders.amfed_plus import flv

TOLERANCE = 0.25  # seconds between a requested time and its frame; half of `Sampling.gap`
MAX_BYTES = 2**28  # a minute of webcam video has about 5 MB

_SILENT = "-8"  # FFmpeg's AV_LOG_QUIET: damage is reported in dropped.csv, not on stderr

Frames = dict[float, np.ndarray | UnreadableError]


def frames_at(path: Path, times: Sequence[float]) -> Frames:
    """Decodes frames of one video.

    Args:
      path: path of the video.
      times: seconds since the first frame, which is how OpenCV counts.

    Returns:
      For each time, the nearest frame, uint8[H, W, 3] RGB, or the reason why there is none.
    """
    contents = flv.contents(path.read_bytes())
    requested = sorted(set(times))
    if not contents.times:
        return dict.fromkeys(requested, UnreadableError(contents.damage))
    try:
        nearest, end = _nearest(_decoded(path, len(contents.times)), requested)
    except UnreadableError as error:
        return dict.fromkeys(requested, error)
    return {time: nearest.get(time, _missing(time, end, contents.damage)) for time in requested}


class Reader:
    """Returns frames of the videos of a source, and decodes ahead.

    Holds the requested frames of at most one video per core, plus one. Each frame is
    returned once; a second request decodes the video again.
    """

    def __init__(self, source: sources.Source, times: Mapping[str, Sequence[float]]):
        """Decodes nothing yet.

        Args:
          source: contains the videos.
          times: video file to times in seconds, in the order of the later requests.
        """
        self._source = source
        self._times = dict(times)
        self._files = list(times)
        self._position = {file: number for number, file in enumerate(self._files)}
        self._ahead = len(os.sched_getaffinity(0))
        self._pool = futures.ThreadPoolExecutor(self._ahead)  # starts its threads on first use
        self._pending: dict[str, futures.Future[Frames]] = {}

    def frame(self, file: str, time: float) -> np.ndarray:
        """One of the requested frames, uint8[H, W, 3] RGB.

        Raises:
          UnreadableError: The video is damaged at or before this frame.
          sources.MemberError: The file cannot be read.
        """
        self._submit_from(self._position[file])
        frames = self._pending[file].result()
        if time not in frames:
            frames.update(self._decode(file))
        frame = frames.pop(time)
        if not frames:
            del self._pending[file]
        if isinstance(frame, Exception):
            raise frame
        return frame

    def _submit_from(self, first: int) -> None:
        for file in self._files[first : first + self._ahead + 1]:
            if file not in self._pending:
                self._pending[file] = self._pool.submit(self._decode, file)

    def _decode(self, file: str) -> Frames:
        size = self._source.sizes()[file]
        if size > MAX_BYTES:
            raise sources.MemberError(f"{size:,} bytes")
        with sources.local(self._source, file) as path:
            return frames_at(path, self._times[file])


def silence() -> None:
    """Disables FFmpeg's messages on stderr, if called before OpenCV first uses FFmpeg."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _SILENT)


def _missing(time: float, end: float, damage: str) -> UnreadableError:
    if time <= end:
        return UnreadableError(f"no frame within {TOLERANCE} s of this time")
    return UnreadableError(damage or f"the video ends at {end:.2f} s")


def _decoded(path: Path, count: int) -> Iterator[tuple[float, np.ndarray]]:
    """Yields time in seconds and pixels (uint8[H, W, 3] BGR) of the first `count` frames.

    Raises:
      UnreadableError: The frames have more than `MAX_PIXELS` pixels.
    """
    silence()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(capture.get(side)) for side in sides)
        if width * height > MAX_PIXELS:
            raise UnreadableError(f"{width} x {height} pixels")
        for _ in range(count):
            is_frame, pixels = capture.read()
            if not is_frame:
                return
            yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0, pixels
    finally:
        capture.release()


def _nearest(
    frames: Iterator[tuple[float, np.ndarray]], times: Sequence[float]
) -> tuple[Frames, float]:
    """The frame nearest to each of the ascending `times`, and the time of the last frame.

    Holds two frames besides the results.
    """
    results: Frames = {}
    previous: tuple[float, np.ndarray] | None = None
    rest = list(times)
    for time, pixels in frames:
        while rest and rest[0] <= time:
            _add_nearest(results, rest.pop(0), previous, (time, pixels))
        previous = time, pixels
    for late in rest:
        _add_nearest(results, late, previous, None)
    return results, previous[0] if previous else 0.0


def _add_nearest(
    results: Frames,
    time: float,
    previous: tuple[float, np.ndarray] | None,
    following: tuple[float, np.ndarray] | None,
) -> None:
    candidates = [frame for frame in (previous, following) if frame is not None]
    nearest = min(candidates, key=lambda frame: abs(frame[0] - time), default=None)
    if nearest is not None and abs(nearest[0] - time) <= TOLERANCE:
        results[time] = cv2.cvtColor(nearest[1], cv2.COLOR_BGR2RGB)
