"""Picture files to pixels, with the checks that OpenCV leaves out.

OpenCV decodes a truncated JPEG to a half grey picture without a word, and a header
that claims 65,535 x 65,535 pixels to 13 GB: both are refused here, for JPEG, PNG, TIFF
and BMP. Also knows the mark that stand-ins carry inside each file, so that no copy of
one passes for the real set.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np

MAX_PIXELS = 50_000_000  # a 50-megapixel camera; nothing in use comes near
BLACK_MEAN = 10.0  # KDEF's black pictures lie below it, everything lit far above
STAND_IN_COMMENT = b"fer_jax stand-in: rendered face, no person"
STAND_IN_FILE = "STAND_IN.txt"
"""In the root of every stand-in, for files that can carry no mark (csv, video)."""
ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
"""What picture files are called, in small letters."""

_END = b"\xff\xd9"
_COMMENT = 0xFE
_SCAN = 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 less DHT, JPG, DAC
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 33  # signature, length, "IHDR", 13 bytes, checksum
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_OFFSETS, _TIFF_LENGTHS = 256, 257, 273, 279
_TIFF_TYPES = {3: "H", 4: "I"}  # SHORT and LONG: all that these four tags may have


class UnreadableError(Exception):
    """A file is no whole picture; the message says why in a few words."""


def decode(data: bytes) -> np.ndarray:
    """Decodes a JPEG, PNG, TIFF or BMP file, whichever it is whatever its name.

    Args:
      data: The file's bytes.

    Returns:
      uint8[H, W, 3], RGB.

    Raises:
      UnreadableError: Another kind of file, truncated, or larger than `MAX_PIXELS`.
    """
    for start, check in _CHECKS.items():
        if data.startswith(start):
            return _decode(data, check)
    raise UnreadableError("not a JPEG, PNG, TIFF or BMP" if data else "empty")


def decode_jpeg(data: bytes) -> np.ndarray:
    """`decode` for a file that must be a JPEG."""
    return _decode(data, _check_jpeg)


def encode_jpeg(picture: np.ndarray, quality: int) -> bytes:
    """`picture` (uint8[H, W, 3], RGB) as a JPEG file."""
    return _encode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(picture: np.ndarray) -> bytes:
    """`picture` (uint8[H, W, 3], RGB) as a PNG file."""
    return _encode(".png", picture, [])


def is_black(picture: np.ndarray) -> bool:
    """Whether nothing was exposed: some of KDEF's pictures are black."""
    return float(picture.mean()) < BLACK_MEAN


def is_colour_jpeg(data: bytes) -> bool:
    """Whether a file is a JPEG of three channels, the form in which records are stored."""
    if data[:2] != b"\xff\xd8":
        return False
    return _jpeg_header(data)[3] == 3


def mark_stand_in(data: bytes) -> bytes:
    """A picture file with the stand-in's comment, which no decoder minds.

    In a comment segment of a JPEG, a text chunk of a PNG, behind the end of any other.
    """
    if data.startswith(_PNG):
        body = b"tEXt" + b"Comment\0" + STAND_IN_COMMENT
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return data[:_PNG_HEADER] + chunk + data[_PNG_HEADER:]
    if data[:2] == b"\xff\xd8":
        length = len(STAND_IN_COMMENT) + 2
        segment = struct.pack(">BBH", 0xFF, _COMMENT, length) + STAND_IN_COMMENT
        return data[:2] + segment + data[2:]
    return data + STAND_IN_COMMENT


def is_stand_in(data: bytes) -> bool:
    """Whether a picture file carries the stand-in's comment."""
    return STAND_IN_COMMENT in data[:256] or data.endswith(STAND_IN_COMMENT)


def _decode(data: bytes, check: Callable[[bytes], tuple[int, int]]) -> np.ndarray:
    try:
        width, height = check(data)
    except (struct.error, IndexError) as error:
        raise UnreadableError("truncated") from error
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} pixels")
    if not width or not height:
        raise UnreadableError("no pixels")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UnreadableError("cannot be decoded") from error
    if picture is None:
        raise UnreadableError("cannot be decoded")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _encode(ending: str, picture: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(ending, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of {picture.shape}")
    return data.tobytes()


def _check_jpeg(data: bytes) -> tuple[int, int]:
    width, height, scan, _ = _jpeg_header(data)
    if width * height <= MAX_PIXELS and data.find(_END, scan) < 0:
        raise UnreadableError("truncated")
    return width, height


def _jpeg_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, where the first scan starts, channels; walks over embedded thumbnails."""
    if data[:2] != b"\xff\xd8":
        raise UnreadableError("empty" if not data else "not a JPEG")
    position, width, height, channels = 2, 0, 0, 0
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise UnreadableError("damaged header")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte before the marker
            position += 1
            continue
        if marker in _FRAMES and position + 10 <= len(data):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            channels = data[position + 9]
        if marker == _SCAN and width and height:
            return width, height, position, channels
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise UnreadableError("truncated")


def _check_png(data: bytes) -> tuple[int, int]:
    """Walks the chunks to the end: OpenCV fills up what a truncated PNG lacks."""
    width, height = struct.unpack(">II", data[16:24])
    position = len(_PNG)
    while position + 12 <= len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        if data[position + 4 : position + 8] == b"IEND":
            return width, height
        position += length + 12
    if width * height > MAX_PIXELS:
        return width, height  # the better reason
    raise UnreadableError("truncated")


def _check_bmp(data: bytes) -> tuple[int, int]:
    start, header = struct.unpack("<II", data[10:18])
    if header < 40:
        raise UnreadableError("a BMP of an old kind")
    width, height, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
    width, height = abs(width), abs(height)
    row = (width * bits + 31) // 32 * 4
    if width * height <= MAX_PIXELS and compression == 0 and len(data) < start + row * height:
        raise UnreadableError("truncated")
    return width, height


def _check_tiff(data: bytes) -> tuple[int, int]:
    """Reads the first directory, and whether all strips that it names are there."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[start : start + 2])
    tags: dict[int, tuple[int, ...]] = {}
    for position in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack(order + "HHI", data[position : position + 8])
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_OFFSETS, _TIFF_LENGTHS):
            tags[tag] = _tiff_values(data, order, position + 8, kind, number)
    if _TIFF_WIDTH not in tags or _TIFF_HEIGHT not in tags:
        raise UnreadableError("damaged header")
    width, height = tags[_TIFF_WIDTH][0], tags[_TIFF_HEIGHT][0]
    strips = zip(tags.get(_TIFF_OFFSETS, ()), tags.get(_TIFF_LENGTHS, ()), strict=False)
    if width * height <= MAX_PIXELS and any(sum(strip) > len(data) for strip in strips):
        raise UnreadableError("truncated")
    return width, height


def _tiff_values(data: bytes, order: str, at: int, kind: int, number: int) -> tuple[int, ...]:
    """The values of a tag; more than fit beside it lie elsewhere."""
    if kind not in _TIFF_TYPES:
        raise UnreadableError("damaged header")
    form = f"{order}{number}{_TIFF_TYPES[kind]}"
    size = struct.calcsize(form)
    if size > len(data):
        raise UnreadableError("truncated")
    if size > 4:
        (at,) = struct.unpack(order + "I", data[at : at + 4])
    return struct.unpack(form, data[at : at + size])


_CHECKS: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    b"\xff\xd8": _check_jpeg,
    _PNG: _check_png,
    b"II*\0": _check_tiff,
    b"MM\0*": _check_tiff,
    b"BM": _check_bmp,
}
