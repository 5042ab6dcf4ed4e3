"""Cuts videos into segments that workers read on their own, as one pass over the video would.

A segment is a span of time, because OpenCV finds a time but not a frame number: where the frame
rate varies, it is off by many frames. A worker seeks a time clearly before its segment and decodes
from there. What that leads to depends on the container, so each worker also reads the first frame
behind its segment. If the next segment did not begin with that frame, `Joiner` has it read again,
from the start of the video. Finds no faces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fer_jax import buckets
from fer_jax.errors import UserError
from fer_jax.faces.decode import UnreadableError
from fer_jax.inference import sources
from fer_jax.inference.sources import Frame, Reader, Source

# Frames by the header that are decoded before a segment: more than are between two key frames with
# the default of x264, 250. Transport streams have no index, and a decoder needs a key frame.
_LEAD = 300

Mark = tuple[float, int]
"""Time of a frame, and a checksum of its pixels."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a video.

    Attributes:
      name: path or URL of the video.
      number: from 0.
      start: seconds; the segment begins with the first frame then or later.
      end: seconds; it ends before the first frame then or later. Infinite for the last segment.
      frames: their number, by the header; that of a whole segment if unknown.
      expected: frames of the whole video, by the header; 0 if unknown.
      seeks: whether to look for the start; if not, the video is decoded up to there.
    """

    name: str
    number: int
    start: float
    end: float
    frames: int
    expected: int
    seeks: bool

    @property
    def path(self) -> Path:
        """Path of the video, or of a copy of it.

        Raises:
          UserError: it is in a bucket, and cannot be copied.
        """
        return buckets.local_path(self.name) if buckets.is_url(self.name) else Path(self.name)


@dataclasses.dataclass
class Part:
    """What was read of a segment.

    Attributes:
      segment: the segment.
      rows: of its faces, with frames numbered from 0.
      number: frames of the video before it; None if its start was looked for.
      frames: number of frames.
      first: mark of the first frame at its start or later; None if there is none.
      following: mark of the first frame behind its end; None if there is none.
      error: why reading ended early; "" if it did not.
      size: of the video, in bytes; None if unknown.
    """

    segment: Segment
    rows: list[list[Any]] = dataclasses.field(default_factory=list)
    number: int | None = None
    frames: int = 0
    first: Mark | None = None
    following: Mark | None = None
    error: str = ""
    size: int | None = None


def cut(name: str, length: int) -> Iterator[Segment]:
    """Yields the segments of a video, of `length` frames each where its frame rate is constant."""
    whole = Segment(name, 0, -math.inf, math.inf, length, 0, seeks=False)
    try:
        with contextlib.closing(Reader(Source(name, "video", whole.path))) as reader:
            rate, expected = reader.rate, reader.expected
    except (UserError, UnreadableError):  # its row will say so
        yield dataclasses.replace(whole, frames=1)
        return
    if not expected:
        yield whole
        return
    count = math.ceil(expected / length)
    # Half a frame earlier, so that rounding moves no frame into another segment.
    starts = [-math.inf, *((number * length - 0.5) / rate for number in range(1, count)), math.inf]
    for number in range(count):
        frames = min(length, expected - number * length)
        start, end = starts[number : number + 2]
        yield Segment(name, number, start, end, frames, expected, seeks=number * length > _LEAD)


def read(part: Part) -> Iterator[Frame]:
    """Yields the frames of `part.segment`, numbered from 0, and completes `part`."""
    segment = part.segment
    try:
        with contextlib.closing(Reader(Source(segment.name, "video", segment.path))) as reader:
            if segment.seeks:
                reader.seek(segment.start - _LEAD / reader.rate)
            found = reader.grab()
            if segment.seeks and found and reader.seconds >= segment.start:  # no key frame before
                part.segment = dataclasses.replace(segment, seeks=False)
                yield from read(part)
                return
            while found and reader.seconds < segment.start:
                found = reader.grab()
            part.number = None if segment.seeks else reader.count - found
            while found and (frame := reader.frame()):
                is_behind = reader.seconds >= segment.end
                if is_behind or not part.frames:
                    mark = reader.seconds, zlib.crc32(frame.image)
                    part.first = part.first or mark
                    if is_behind:
                        part.following = mark
                        return
                yield dataclasses.replace(frame, index=part.frames)
                part.frames += 1
                found = reader.grab()
    except (UserError, UnreadableError) as error:
        part.error = str(error)


class Joiner:
    """Numbers the frames of the segments of videos, which come in order.

    Args:
      read_again: reads a segment once more.
    """

    def __init__(self, read_again: Callable[[Segment], Part]) -> None:
        self._read_again = read_again
        self._number = 0  # of the next frame
        self._following: Mark | None = None  # of the segment before

    def join(self, part: Part) -> Part:
        """Returns a part with its number; read again if it is not what follows the one before."""
        if part.number is None and part.first != self._following:
            part = self._read_again(dataclasses.replace(part.segment, seeks=False))
        if part.number is None:
            part.number = self._number
        self._number, self._following = part.number + part.frames, part.following
        if part.segment.end == math.inf and not part.error:
            part.error = sources.damage(self._number, part.segment.expected)
        return part
