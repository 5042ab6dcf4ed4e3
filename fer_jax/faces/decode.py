"""Picture files to pixels, with the checks that OpenCV leaves out.

OpenCV turns the missing end of a JPEG grey without a word, and takes gigabytes for a small
file whose header claims them: both are refused here.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

SUFFIXES = frozenset({
    ".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
"""Of files that are taken for pictures in a folder."""

MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000  # twice a large camera's

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 less DHT, JPG, DAC


class UnreadableError(Exception):
    """A file is no picture or video that can be read; the message says why in a few words."""


def read_picture(path: Path) -> np.ndarray:
    """A picture, turned as its camera says: uint8[H, W, 3] RGB.

    Raises:
      UnreadableError: no file, no picture, a damaged or a huge one.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableError(f"larger than {MAX_BYTES // 1_000_000} MB")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError((error.strerror or str(error)).lower()) from error
    return decode_picture(data)


def decode_picture(data: bytes) -> np.ndarray:
    """The bytes of a picture file as uint8[H, W, 3] RGB; errors as `read_picture`."""
    if not data:
        raise UnreadableError("empty file")
    width, height = _claimed_size(data)
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} pixels are too many")
    # An embedded thumbnail has an end of its own, near the start.
    if data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < len(data) // 2:
        raise UnreadableError("truncated JPEG")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise UnreadableError("not a picture that can be decoded")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _claimed_size(data: bytes) -> tuple[int, int]:
    """Width and height by the header of a PNG or JPEG; 0 where it is another format."""
    if data.startswith(_PNG_START) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    at = 2
    while data.startswith(_JPEG_START) and at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0
