"""Reads frames from image files, folders, videos and cameras.

Videos are decoded frame by frame and never held in memory. An input that cannot be read yields an
`Unreadable` in its place, so that one bad file does not end a long prediction.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from fer_jax.errors import UserError
from fer_jax.faces import decode as picture_files
from fer_jax.faces.decode import UnreadableError

VIDEO_SUFFIXES = frozenset({
    ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv",
})  # fmt: skip

CAMERA = "camera"
"""Name of the first camera on the command line; "camera:1" is the second."""

_DEFAULT_RATE = 25.0  # frames per second, for a file without a frame rate
_MAX_RATE = 1000.0  # a higher rate means a broken header

Kind = Literal["picture", "video", "camera"]  # stored in predictions.json


@dataclasses.dataclass(frozen=True)
class Source:
    """An image, a video or a camera.

    Attributes:
      name: its path as given, or "camera".
      kind: "picture" (an image file), "video" or "camera".
      path: path of the file; None for a camera.
      camera: camera index.
    """

    name: str
    kind: Kind
    path: Path | None = None
    camera: int = 0


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
    """

    source: Source
    index: int
    seconds: float | None
    image: np.ndarray
    rate: float = 0.0
    expected: int = 0


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A source, or the rest of one, that cannot be read, with the reason."""

    source: Source
    reason: str


def find_sources(inputs: Sequence[str], exclude: Path | None = None) -> list[Source]:
    """Lists the images, videos and cameras named on a command line, in order.

    Args:
      inputs: files, folders (searched recursively), or "camera".
      exclude: the output folder, which is not searched.

    Raises:
      UserError: a path that does not exist, or a folder without images and videos.
    """
    sources: list[Source] = []
    for argument in inputs:
        name, _, number = argument.partition(":")
        path = Path(argument)
        if name == CAMERA and (number.isdigit() or not number) and not path.exists():
            sources.append(Source(argument, "camera", camera=int(number or 0)))
        elif path.is_dir():
            sources += _folder_sources(path, exclude)
        elif path.exists():
            sources.append(_file_source(path))
        else:
            raise UserError(
                f"expected an image, a video, a folder or {CAMERA!r}, found nothing at "
                f"{argument}; check the path"
            )
    return sources


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
    """Checks that a camera can be opened.

    Raises:
      UserError: no such camera, or another program is using it.
    """
    capture = _open(source)
    opened = capture.isOpened()
    capture.release()
    if not opened:
        raise UserError(
            f"expected a camera with number {source.camera}, found none that opens; connect one, "
            f"close the program that uses it, or choose another, such as {CAMERA}:1"
        )


def _folder_sources(folder: Path, exclude: Path | None) -> list[Source]:
    excluded = exclude.absolute() if exclude else None
    sources = [
        _file_source(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in picture_files.SUFFIXES | VIDEO_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
        and not (excluded and path.absolute().is_relative_to(excluded))
    ]
    if not sources:
        suffixes = " ".join(sorted(picture_files.SUFFIXES | VIDEO_SUFFIXES))
        raise UserError(
            f"expected images or videos in {folder}, found none; supported file types: {suffixes}"
        )
    return sources


def _file_source(path: Path) -> Source:
    kind: Kind = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "picture"
    return Source(str(path), kind, path)


def _capture(source: Source) -> Iterator[Frame]:
    """Yields the frames of a video or a camera.

    Raises:
      UnreadableError: it cannot be opened, has no frame, or ends early.
    """
    capture = _open(source)
    try:
        if not capture.isOpened():
            raise UnreadableError("not a video that can be decoded")
        rate = _rate(capture.get(cv2.CAP_PROP_FPS))
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT) if source.kind == "video" else 0
        expected = int(count) if 0 < count < 1e9 else 0
        index, start = 0, time.monotonic()
        while (read := capture.read())[0]:
            # Files with a variable rate have a timestamp per frame; some files have none. A
            # camera's timestamps start at an arbitrary time.
            timestamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            seconds = timestamp if timestamp > 0 or index == 0 else index / rate
            if source.kind == "camera":
                seconds = time.monotonic() - start
            image = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            yield Frame(source, index, seconds, image, rate, expected)
            index += 1
    finally:
        capture.release()
    if index == 0:
        raise UnreadableError("no frame could be read")
    # Header counts are slightly off even in intact files; 10% missing means damage.
    if index < 0.9 * expected:
        raise UnreadableError(f"damaged: {index:,} of {expected:,} frames could be read")


def _open(source: Source) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # errors are reported by this module
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # of every failed backend
    try:
        if source.path is None:
            return cv2.VideoCapture(source.camera)
        return cv2.VideoCapture(str(source.path), cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)


def _rate(header_rate: float) -> float:
    is_valid = math.isfinite(header_rate) and 0 < header_rate <= _MAX_RATE
    return header_rate if is_valid else _DEFAULT_RATE
