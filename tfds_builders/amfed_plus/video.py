"""Frames of videos by time: each video decoded once, a few of them ahead, on all cores.

Frames are taken by the timestamps that the decoder reports, because the videos have a
variable frame rate. Damaged videos give what is whole and say what is missing: FFmpeg
itself would invent the rest. Which frames are wanted, and what they show, is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path

import cv2
import numpy as np

from tfds_builders import pictures, sources
from tfds_builders.amfed_plus import flv

TOLERANCE = 0.25  # seconds between a wanted time and its frame; half of the least gap
MAX_BYTES = 2**28  # a minute of a webcam has some 5 MB

_SILENT = "-8"  # FFmpeg's AV_LOG_QUIET: it says on stderr what is said here in one message

Frames = dict[float, np.ndarray | pictures.UnreadableError]


def frames_at(path: Path, times: Sequence[float]) -> Frames:
    """Decodes one video once.

    Args:
      path: The video's file.
      times: Seconds from its first picture, which is how OpenCV counts.

    Returns:
      For each time the nearest frame, uint8[H, W, 3] RGB, or why there is none.
    """
    contents = flv.contents(path.read_bytes())
    wanted = sorted(set(times))
    if not contents.times:
        return dict.fromkeys(wanted, pictures.UnreadableError(contents.damage))
    try:
        found, end = _nearest(_decoded(path, len(contents.times)), wanted)
    except pictures.UnreadableError as error:
        return dict.fromkeys(wanted, error)
    return {time: found.get(time, _missing(time, end, contents.damage)) for time in wanted}


class Reader:
    """Frames of the videos of a source; asked for in order, it decodes ahead of the asker.

    Memory: the wanted frames of as many videos as there are cores, and one more. A frame
    is handed out once; asked for again, its video is decoded again.
    """

    def __init__(self, source: sources.Source, wanted: Mapping[str, Sequence[float]]):
        """Decodes nothing yet.

        Args:
          source: Has the videos.
          wanted: Video file to times in seconds, in the order in which they will be asked for.
        """
        self._source = source
        self._wanted = dict(wanted)
        self._files = list(wanted)
        self._position = {file: number for number, file in enumerate(self._files)}
        self._ahead = len(os.sched_getaffinity(0))
        self._pool = futures.ThreadPoolExecutor(self._ahead)  # starts no thread before its use
        self._pending: dict[str, futures.Future[Frames]] = {}

    def frame(self, file: str, time: float) -> np.ndarray:
        """One of the wanted frames, uint8[H, W, 3] RGB.

        Raises:
          pictures.UnreadableError: The video, or the part of it where the frame was, is damaged.
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
            return frames_at(path, self._wanted[file])


def silence() -> None:
    """Keeps FFmpeg's remarks from stderr; OpenCV reads this when it first uses FFmpeg."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _SILENT)


def _missing(time: float, end: float, damage: str) -> pictures.UnreadableError:
    if time <= end:
        return pictures.UnreadableError(f"no frame within {TOLERANCE} s of this time")
    return pictures.UnreadableError(damage or f"the video ends at {end:.2f} s")


def _decoded(path: Path, count: int) -> Iterator[tuple[float, np.ndarray]]:
    """Time in seconds and picture (BGR) of the first `count` frames, in order.

    Raises:
      pictures.UnreadableError: The video claims more pixels than any picture has.
    """
    silence()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(capture.get(side)) for side in sides)
        if width * height > pictures.MAX_PIXELS:
            raise pictures.UnreadableError(f"{width} x {height} pixels")
        for _ in range(count):
            done, picture = capture.read()
            if not done:
                return
            yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0, picture
    finally:
        capture.release()


def _nearest(
    frames: Iterator[tuple[float, np.ndarray]], wanted: Sequence[float]
) -> tuple[Frames, float]:
    """The nearest frame to each of the ascending `wanted` times, and the last frame's time.

    Only two frames are held at a time beside the wanted ones.
    """
    found: Frames = {}
    before: tuple[float, np.ndarray] | None = None
    rest = list(wanted)
    for time, picture in frames:
        while rest and rest[0] <= time:
            _take(found, rest.pop(0), before, (time, picture))
        before = time, picture
    for late in rest:
        _take(found, late, before, None)
    return found, before[0] if before else 0.0


def _take(
    found: Frames,
    wanted: float,
    before: tuple[float, np.ndarray] | None,
    behind: tuple[float, np.ndarray] | None,
) -> None:
    candidates = [one for one in (before, behind) if one is not None]
    nearest = min(candidates, key=lambda one: abs(one[0] - wanted), default=None)
    if nearest is not None and abs(nearest[0] - wanted) <= TOLERANCE:
        found[wanted] = cv2.cvtColor(nearest[1], cv2.COLOR_BGR2RGB)
