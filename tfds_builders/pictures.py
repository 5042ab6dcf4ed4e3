"""Picture files to pixels, with the checks that OpenCV leaves out.

OpenCV decodes a truncated JPEG to a half grey picture without a word, and a header
that claims 65,535 x 65,535 pixels to 13 GB: both are refused here. Also knows the mark
that stand-ins carry inside each file, so that no copy of one passes for the real set.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

MAX_PIXELS = 50_000_000  # a 50-megapixel camera; nothing in use comes near
BLACK_MEAN = 10.0  # KDEF's black pictures lie below it, everything lit far above
STAND_IN_COMMENT = b"fer_jax stand-in: rendered face, no person"

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_COMMENT = 0xFE
_SCAN = 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 less DHT, JPG, DAC


class UnreadableError(Exception):
    """A file is no whole picture; the message says why in a few words."""


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decodes a JPEG file.

    Args:
      data: The file's bytes.

    Returns:
      uint8[H, W, 3], RGB.

    Raises:
      UnreadableError: Not a JPEG, truncated, or larger than `MAX_PIXELS`.
    """
    width, height, scan = _jpeg_header(data)
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} pixels")
    if data.find(_END, scan) < 0:
        raise UnreadableError("truncated")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise UnreadableError("cannot be decoded")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def encode_jpeg(picture: np.ndarray, quality: int) -> bytes:
    """`picture` (uint8[H, W, 3], RGB) as a JPEG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of {picture.shape}")
    return data.tobytes()


def is_black(picture: np.ndarray) -> bool:
    """Whether nothing was exposed: some of KDEF's pictures are black."""
    return float(picture.mean()) < BLACK_MEAN


def mark_stand_in(data: bytes) -> bytes:
    """A JPEG file with the stand-in's comment right after its start."""
    segment = struct.pack(">BBH", 0xFF, _COMMENT, len(STAND_IN_COMMENT) + 2) + STAND_IN_COMMENT
    return data[:2] + segment + data[2:]


def is_stand_in(data: bytes) -> bool:
    """Whether a JPEG file carries the stand-in's comment."""
    return STAND_IN_COMMENT in data[:256]


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Width, height, and where the first scan starts; walks over embedded thumbnails."""
    if data[:2] != _START:
        raise UnreadableError("empty" if not data else "not a JPEG")
    position, width, height = 2, 0, 0
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise UnreadableError("damaged header")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte before the marker
            position += 1
            continue
        if marker in _FRAMES and position + 9 <= len(data):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
        if marker == _SCAN and width and height:
            return width, height, position
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise UnreadableError("truncated")
