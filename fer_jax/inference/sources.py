"""Reads frames from image files, folders, videos, cameras and network streams.

Videos are decoded frame by frame and never held in memory. An input that cannot be read yields an
`Unreadable` in its place, so that one bad file does not end a long prediction.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from fer_jax import buckets
from fer_jax.errors import UserError
from fer_jax.faces import decode as picture_files
from fer_jax.faces.decode import UnreadableError

VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})  # fmt: skip

CAMERA = "camera"
"""Name of the first camera on the command line; "camera:1", or "1", is the second."""

STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "srt://")

OUTPUT_FOLDERS = ("annotated", "figures", "timelines")
"""Folders of images that a prediction writes beside its tables."""

_TABLE = "predictions.csv"
_RESULTS = ("predictions", "tracks", "timeline")  # names of the files beside them
_DEFAULT_RATE = 25.0  # frames per second, for a file without a frame rate
_MAX_RATE = 1000.0  # a higher rate means a broken header
_OPEN_SECONDS = 15  # to wait for a stream
_USER = re.compile(r"(?<=://)[^/@]*@")  # user:password of a URL

Kind = Literal["picture", "video", "camera"]  # stored in predictions.json


@dataclasses.dataclass(frozen=True)
class Source:
    """An image, a video, a camera or a network stream.

    Attributes:
      name: its path or URL as given, "camera", or a stream's URL without user and password.
      kind: "picture" (an image file), "video" or "camera" (a stream, too).
      path: path of the file; None for a camera.
      camera: camera index.
      url: of a stream; "" if it is none.
    """

    name: str
    kind: Kind
    path: Path | None = None
    camera: int = 0
    url: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a source.

    Attributes:
      source: where the frame is from.
      index: frame number, from 0; 0 for an image.
      seconds: time since the start of the video or of recording; None for an image.
      image: uint8[H, W, 3] RGB.
      rate: frames per second of the video; 0 for an image.
      expected: number of frames according to the video's header; 0 if unknown.
      captured: `time.monotonic()` when it was read; 0 for an image.
    """

    source: Source
    index: int
    seconds: float | None
    image: np.ndarray
    rate: float = 0.0
    expected: int = 0
    captured: float = 0.0


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A source, or the rest of one, that cannot be read, with the reason."""

    source: Source
    reason: str


@dataclasses.dataclass
class Found:
    """What the inputs of a command line hold.

    Attributes:
      sources: images, videos, cameras and streams, in order.
      ignored: files in folders that are none of these, with the reason.
    """

    sources: list[Source] = dataclasses.field(default_factory=list)
    ignored: list[tuple[Path, str]] = dataclasses.field(default_factory=list)

    def count_ignored(self) -> str:
        """Returns the ignored files by reason, such as "3 .txt, 1 earlier result"; "" if none."""
        counts = collections.Counter(reason for _, reason in self.ignored)
        return ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())


def is_input(argument: str) -> bool:
    """Whether an argument names a file or folder that exists, a camera, a stream or a bucket."""
    is_known = _camera_number(argument) is not None or argument.lower().startswith(STREAMS)
    return is_known or os.path.exists(argument) or isinstance(buckets.path_or_url(argument), str)


def find_sources(inputs: Sequence[str], out: Path | None = None) -> Found:
    """Lists the images, videos, cameras and streams named on a command line, in order.

    Args:
      inputs: files, folders (searched recursively), also in a bucket, which are copied; "camera" or
        a camera's number; or URLs of streams.
      out: the output folder; the images that a prediction writes there are ignored.

    Raises:
      UserError: a path that does not exist or is no file, or inputs without images and videos.
    """
    found = Found()
    for argument in inputs:
        is_stream = argument.lower().startswith(STREAMS)
        path = Path(argument) if is_stream else buckets.local_path(argument)
        if is_stream:
            found.sources.append(Source(_USER.sub("", argument), "camera", url=argument))
        elif (number := _camera_number(argument)) is not None and not os.path.exists(path):
            found.sources.append(Source(argument, "camera", camera=number))
        elif os.path.isdir(path):
            _search(path, out, found)
        elif os.path.isfile(path):
            found.sources.append(_file_source(path))
        else:
            what = "no regular file" if os.path.exists(path) else "nothing"
            raise UserError(
                f"expected an image, a video, a folder, {CAMERA!r} or a stream's URL, found {what} "
                f"at {argument}; check the path"
            )
    if not found.sources:
        suffixes = " ".join(sorted(picture_files.SUFFIXES | VIDEO_SUFFIXES))
        raise UserError(
            f"expected images or videos in {', '.join(inputs)}, found "
            f"{found.count_ignored() or 'none'}; supported file types: {suffixes}"
        )
    return found


def frames(source: Source) -> Iterator[Frame | Unreadable]:
    """Yields the frames of a source as they are read, or an `Unreadable` if reading fails."""
    try:
        if source.kind == "picture":
            assert source.path is not None
            yield Frame(source, 0, None, picture_files.read_image(source.path))
        else:
            yield from _capture(source)
    except UnreadableError as error:
        yield Unreadable(source, str(error))


def check_camera(source: Source) -> None:
    """Checks that a camera or a stream can be opened.

    Raises:
      UserError: no such camera or stream, or another program is using it.
    """
    capture = _open(source)
    opened = capture.isOpened()
    capture.release()
    if opened:
        return
    if source.url:
        raise UserError(
            f"expected a video stream at {source.name}, found none that opens within "
            f"{_OPEN_SECONDS} seconds; check the address, the password and the network"
        )
    raise UserError(
        f"expected a camera with number {source.camera}, found none that opens; connect one, "
        f"close the program that uses it, or choose another, such as {CAMERA}:1"
    )


def _camera_number(argument: str) -> int | None:
    name, _, number = argument.partition(":")
    if name == CAMERA and (number.isdecimal() or not number):
        return int(number or 0)
    return int(argument) if argument.isdecimal() and len(argument) < 3 else None


def walk(folder: Path, out: Path | None = None) -> Iterator[Source | tuple[Path, str]]:
    """Yields the images and videos in a folder and its subfolders; hidden ones count as absent.

    In a fixed order, each folder's files before its subfolders.

    Args:
      folder: where to look.
      out: an output folder, whose results are ignored.

    Yields:
      A source, or the path of another file and why it is ignored.
    """
    results = {out.absolute()} if out else set()
    unlisted: list[tuple[Path, str]] = []

    def report(error: OSError) -> None:
        unlisted.append((Path(os.fsdecode(error.filename)), "folder that cannot be read"))

    for place, folders, names in os.walk(folder, onerror=report):
        here = Path(place)
        if _TABLE in names:
            results.add(here.absolute())
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = here / name
            if name.startswith("."):
                continue
            if _is_result(path.absolute(), results):
                yield path, "of an earlier prediction"
            elif path.suffix.lower() not in picture_files.SUFFIXES | VIDEO_SUFFIXES:
                yield path, path.suffix or "without suffix"
            elif not os.path.isfile(path):  # False, too, in a folder that may not be entered
                yield path, "broken link" if os.path.islink(path) else "not a regular file"
            else:
                yield _file_source(path)
    yield from unlisted


def _search(folder: Path, out: Path | None, found: Found) -> None:
    """Adds the files in a folder and its subfolders."""
    sources = []
    for one in walk(folder, out):
        if isinstance(one, Source):
            sources.append(one)
        else:
            found.ignored.append(one)
    found.sources += sorted(sources, key=lambda source: source.path or folder)


def _is_result(path: Path, results: set[Path]) -> bool:
    """Whether a prediction wrote a file: a table, or an image in one of `OUTPUT_FOLDERS`."""
    if path.parent in results:
        return path.stem in _RESULTS
    return path.parent.name in OUTPUT_FOLDERS and path.parent.parent in results


def _file_source(path: Path) -> Source:
    kind: Kind = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "picture"
    return Source(buckets.origin(path), kind, path)


def _capture(source: Source) -> Iterator[Frame]:
    """Yields the frames of a video, a camera or a stream.

    Raises:
      UnreadableError: it cannot be opened, has no frame, is too large, or ends early.
    """
    count = 0
    with contextlib.closing(Reader(source)) as reader:
        while reader.grab() and (frame := reader.frame()):
            count += 1
            yield frame
    if reason := damage(count, reader.expected):
        raise UnreadableError(reason)


def damage(count: int, expected: int) -> str:
    """What is wrong with a video of `count` frames whose header says `expected`; "" if nothing."""
    if count == 0:
        return "no frame could be read"
    # Header counts are slightly off even in intact files; 10% missing means damage.
    is_damaged = count < 0.9 * expected
    return f"damaged: {count:,} of {expected:,} frames could be read" * is_damaged


class Reader:
    """Decodes a video, a camera or a stream, frame by frame.

    Attributes:
      rate: frames per second, by the header.
      expected: number of frames, by the header; 0 if unknown.
      count: frames that were grabbed.
      seconds: time of the last of them.

    Raises:
      UnreadableError: it cannot be opened.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._capture = source, _open(source)
        if not self._capture.isOpened():
            self.close()
            raise UnreadableError("not a video that can be decoded")
        self.rate = _rate(self._capture.get(cv2.CAP_PROP_FPS))
        is_file = source.path or source.url
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT) if is_file else 0
        self.expected = int(count) if 0 < count < 1e9 else 0
        self.count, self.seconds = 0, 0.0
        self._clock, self._captured = _Clock(self.rate), 0.0

    def close(self) -> None:
        """Closes the file or the camera."""
        self._capture.release()

    def seek(self, seconds: float) -> None:
        """Goes to a frame near a time, before the first one is grabbed; `inference.segments`."""
        self._capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * seconds)

    def grab(self) -> bool:
        """Decodes the next frame; False behind the last one."""
        if not self._capture.grab():
            return False
        self._captured = time.monotonic()
        # Timestamps of a camera start at any time; a file at a URL has a frame count.
        is_live = self._source.kind == "camera" and not self.expected
        milliseconds = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        self.seconds = self._clock.live() if is_live else self._clock.recorded(milliseconds / 1000)
        self.count += 1
        return True

    def frame(self) -> Frame | None:
        """Returns the frame that was grabbed; None if it cannot be converted.

        Raises:
          UnreadableError: it is too large.
        """
        is_read, image = self._capture.retrieve()
        if not is_read:
            return None
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        picture_files.check_shape(image.shape[1], image.shape[0])
        index, captured = self.count - 1, self._captured
        return Frame(self._source, index, self.seconds, image, self.rate, self.expected, captured)


class _Clock:
    """Times of successive frames, which always rise.

    Some files have no timestamps, and those of concatenated files start again.
    """

    def __init__(self, rate: float) -> None:
        self._step, self._start = 1 / rate, time.monotonic()
        self._last, self._offset = -1 / rate, 0.0

    def live(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def recorded(self, timestamp: float) -> float:
        """The timestamp of the next frame, moved behind the frame before if it lies ahead."""
        if timestamp + self._offset <= self._last:
            self._offset = self._last + self._step - timestamp
        self._last = timestamp + self._offset
        return self._last


def _open(source: Source) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # errors are reported by this module
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # of every failed backend
    try:
        if source.url:
            timeout = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * _OPEN_SECONDS]
            return cv2.VideoCapture(source.url, cv2.CAP_FFMPEG, timeout)
        if source.path is None:
            return cv2.VideoCapture(source.camera)
        try:
            str(source.path).encode()
        except UnicodeEncodeError:  # OpenCV takes UTF-8 names only
            with open(source.path, "rb") as file:
                return cv2.VideoCapture(f"/dev/fd/{file.fileno()}", cv2.CAP_FFMPEG)
        return cv2.VideoCapture(str(source.path), cv2.CAP_FFMPEG)
    except OSError as error:
        raise UnreadableError((error.strerror or str(error)).lower()) from error
    finally:
        cv2.utils.logging.setLogLevel(level)


def _rate(header_rate: float) -> float:
    is_valid = math.isfinite(header_rate) and 0 < header_rate <= _MAX_RATE
    return header_rate if is_valid else _DEFAULT_RATE
