"""Where pictures come from: files, folders, videos, cameras, one frame after the other.

A video is decoded as it is asked for, never held. What cannot be read comes out as an
`Unreadable` in its place, so that one bad file does not end a long run.
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
"""The name of the first camera on a command line; "camera:1" is the second."""

_USUAL_RATE = 25.0  # frames per second of a file that does not say
_MOST_RATE = 1000.0  # more is a broken header

Kind = Literal["picture", "video", "camera"]


@dataclasses.dataclass(frozen=True)
class Source:
    """Something with frames in it.

    Attributes:
      name: what people know it by: its path, or "camera".
      kind: "picture", "video" or "camera".
      path: of the file; None for a camera.
      camera: number of the camera.
    """

    name: str
    kind: Kind
    path: Path | None = None
    camera: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
      source: where it is from.
      index: 0 for the first; 0 for a picture.
      seconds: since the start of the video, or of watching; None for a picture.
      image: uint8[H, W, 3] RGB.
      rate: frames per second of the video; 0 for a picture.
      expected: frames that the video claims to have; 0 if it does not say.
    """

    source: Source
    index: int
    seconds: float | None
    image: np.ndarray
    rate: float = 0.0
    expected: int = 0


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A source, or the rest of one, that cannot be read, and why."""

    source: Source
    reason: str


def find_sources(inputs: Sequence[str], besides: Path | None = None) -> list[Source]:
    """The pictures and videos that a command line names, in its order.

    Args:
      inputs: files, folders (searched through to the bottom) or "camera".
      besides: a folder to leave out, because results are written there.

    Raises:
      UserError: a path that does not exist, or a folder without pictures and videos.
    """
    sources: list[Source] = []
    for one in inputs:
        name, _, number = one.partition(":")
        if name == CAMERA and (number.isdigit() or not number) and not Path(one).exists():
            sources.append(Source(one, "camera", camera=int(number or 0)))
            continue
        path = Path(one)
        if path.is_dir():
            sources += _in_folder(path, besides)
        elif path.exists():
            sources.append(_of_file(path))
        else:
            raise UserError(
                f"expected a picture, a video, a folder or {CAMERA!r}, found nothing at {one}; "
                "is the path right?"
            )
    return sources


def frames(source: Source) -> Iterator[Frame | Unreadable]:
    """The frames of a source as they are read; an `Unreadable` where that fails."""
    try:
        if source.kind == "picture":
            assert source.path is not None
            yield Frame(source, 0, None, picture_files.read_picture(source.path))
        else:
            yield from _captured(source)
    except UnreadableError as error:
        yield Unreadable(source, str(error))


def check_camera(source: Source) -> None:
    """Refuses a camera that is not there, before anything slow is begun.

    Raises:
      UserError: no such camera, or one that another program holds.
    """
    capture = _open(source)
    opened = capture.isOpened()
    capture.release()
    if not opened:
        raise UserError(
            f"expected a camera as number {source.camera}, found none that opens; connect one, "
            f"close the program that holds it, or name another as {CAMERA}:1"
        )


def _in_folder(folder: Path, besides: Path | None) -> list[Source]:
    left_out = besides.absolute() if besides else None
    found = [
        _of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in picture_files.SUFFIXES | VIDEO_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
        and not (left_out and path.absolute().is_relative_to(left_out))
    ]
    if not found:
        suffixes = " ".join(sorted(picture_files.SUFFIXES | VIDEO_SUFFIXES))
        raise UserError(
            f"expected pictures or videos in {folder}, found none; known are files with {suffixes}"
        )
    return found


def _of_file(path: Path) -> Source:
    kind: Kind = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "picture"
    return Source(str(path), kind, path)


def _captured(source: Source) -> Iterator[Frame]:
    """The frames of a video or a camera.

    Raises:
      UnreadableError: it cannot be opened, has no frame, or ends before its header says.
    """
    capture = _open(source)
    try:
        if not capture.isOpened():
            raise UnreadableError("not a video that can be decoded")
        rate = _rate(capture.get(cv2.CAP_PROP_FPS))
        claimed = capture.get(cv2.CAP_PROP_FRAME_COUNT) if source.kind == "video" else 0
        expected = int(claimed) if 0 < claimed < 1e9 else 0
        index, began = 0, time.monotonic()
        while (read := capture.read())[0]:
            # Files with a variable rate say when each frame is shown; some say nothing. A camera
            # counts from whenever its driver likes.
            shown = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            seconds = shown if shown > 0 or index == 0 else index / rate
            if source.kind == "camera":
                seconds = time.monotonic() - began
            image = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            yield Frame(source, index, seconds, image, rate, expected)
            index += 1
    finally:
        capture.release()
    if index == 0:
        raise UnreadableError("no frame could be read")
    # Containers count some frames twice or not at all; a tenth is damage.
    if index < 0.9 * expected:
        raise UnreadableError(f"damaged: {index:,} of {expected:,} frames could be read")


def _open(source: Source) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what matters is said by us
    if source.path is None:
        with _silent_opencv():
            return cv2.VideoCapture(source.camera)
    with _silent_opencv():
        return cv2.VideoCapture(str(source.path), cv2.CAP_FFMPEG)


class _silent_opencv:  # noqa: N801 - used like a function
    """Keeps OpenCV from printing why each of its backends could not open something."""

    def __enter__(self) -> None:
        self._level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

    def __exit__(self, *error: object) -> None:
        cv2.utils.logging.setLogLevel(self._level)


def _rate(claimed: float) -> float:
    return claimed if math.isfinite(claimed) and 0 < claimed <= _MOST_RATE else _USUAL_RATE
