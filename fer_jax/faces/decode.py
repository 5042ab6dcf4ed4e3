"""Decodes image files to pixels, with the checks that OpenCV leaves out.

OpenCV fills the missing end of a truncated file with gray, and allocates gigabytes for a small
file whose header claims them. The checks here refuse both before decoding. Pixels are oriented
according to the EXIF header.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection
from pathlib import Path

import cv2
import numpy as np

SUFFIXES = frozenset({
    ".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
"""File suffixes that count as images when a folder is searched."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WebP", "PNM", "GIF", "AVIF")
"""Formats that `decode` accepts by default."""

MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000  # twice a large camera's

_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_SCAN = 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 less DHT, JPG, DAC
_PNG = b"\x89PNG\r\n\x1a\n"
_PNM = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)")
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_OFFSETS, _TIFF_LENGTHS = 256, 257, 273, 279
_TIFF_TYPES = {3: "H", 4: "I"}  # SHORT and LONG, the only types these four tags may have


class UnreadableError(Exception):
    """An image or video cannot be read; the message is a short reason."""


def read_image(path: Path) -> np.ndarray:
    """Reads an image file as uint8[H, W, 3] RGB.

    Raises:
      UnreadableError: The file is missing, larger than `MAX_BYTES`, or fails `decode`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableError(f"larger than {MAX_BYTES // 1_000_000} MB")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError((error.strerror or str(error)).lower()) from error
    return decode(data)


def decode(data: bytes, formats: Collection[str] = FORMATS) -> np.ndarray:
    """Decodes an image file; its content decides the format, not its name.

    Args:
      data: content of the file.
      formats: the accepted formats, some of `FORMATS`.

    Returns:
      uint8[H, W, 3], RGB.

    Raises:
      UnreadableError: The file is empty, truncated, damaged, of another format, or has more than
        `MAX_PIXELS` pixels.
    """
    if not data:
        raise UnreadableError("empty file")
    name = _format(data)
    if name not in formats:
        *most, last = formats
        raise UnreadableError(f"not a {' or '.join([', '.join(most), last] if most else [last])}")
    try:
        width, height = _CHECKS[name](data)
    except (struct.error, IndexError) as error:
        raise UnreadableError(f"truncated {name}") from error
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
    if not width or not height:
        raise UnreadableError("no pixels")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableError("cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def is_color_jpeg(data: bytes) -> bool:
    """Whether `data` is a JPEG file with three channels.

    Raises:
      UnreadableError: A JPEG file with a damaged header.
    """
    return data.startswith(_JPEG) and _jpeg_header(data)[3] == 3


def _format(data: bytes) -> str:
    """The name in `FORMATS` of the format that `data` starts with; "" if none."""
    for start, name in _STARTS.items():
        if data.startswith(start):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return "PNM" if _PNM.match(data) else ""


def _check_jpeg(data: bytes) -> tuple[int, int]:
    width, height, scan, _ = _jpeg_header(data)
    if width * height <= MAX_PIXELS and data.find(_JPEG_END, scan) < 0:
        raise UnreadableError("truncated JPEG")
    return width, height


def _jpeg_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, offset of the first scan, channels; skips embedded thumbnails."""
    position, width, height, channels = 2, 0, 0, 0
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise UnreadableError("damaged header")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte before the marker
            position += 1
            continue
        if marker in _JPEG_FRAMES and position + 10 <= len(data):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            channels = data[position + 9]
        if marker == _JPEG_SCAN and width and height:
            return width, height, position, channels
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise UnreadableError("truncated JPEG")


def _check_png(data: bytes) -> tuple[int, int]:
    """Walks the chunks to the end, because OpenCV fills what a truncated PNG lacks."""
    width, height = struct.unpack(">II", data[16:24])
    position = len(_PNG)
    while position + 12 <= len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        if data[position + 4 : position + 8] == b"IEND":
            return width, height
        position += length + 12
    if width * height > MAX_PIXELS:
        return width, height  # `decode` then gives the size as the reason
    raise UnreadableError("truncated PNG")


def _check_bmp(data: bytes) -> tuple[int, int]:
    start, header = struct.unpack("<II", data[10:18])
    if header == 12:  # BITMAPCOREHEADER of OS/2
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
    width, height = abs(width), abs(height)
    row = (width * bits + 31) // 32 * 4
    if width * height <= MAX_PIXELS and compression == 0 and len(data) < start + row * height:
        raise UnreadableError("truncated BMP")
    return width, height


def _check_tiff(data: bytes) -> tuple[int, int]:
    """Reads the first directory, and checks that all strips it names are in the file."""
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
        raise UnreadableError("truncated TIFF")
    return width, height


def _tiff_values(data: bytes, order: str, at: int, kind: int, number: int) -> tuple[int, ...]:
    """The values of a tag; values of more than four bytes are behind an offset."""
    if kind not in _TIFF_TYPES:
        raise UnreadableError("damaged header")
    layout = f"{order}{number}{_TIFF_TYPES[kind]}"
    size = struct.calcsize(layout)
    if size > len(data):
        raise UnreadableError("truncated TIFF")
    if size > 4:
        (at,) = struct.unpack(order + "I", data[at : at + 4])
    return struct.unpack(layout, data[at : at + size])


def _check_webp(data: bytes) -> tuple[int, int]:
    (length,) = struct.unpack("<I", data[4:8])
    if len(data) < length + 8:
        raise UnreadableError("truncated WebP")
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _check_pnm(data: bytes) -> tuple[int, int]:
    match = _PNM.match(data)
    assert match is not None  # `_format` matched it
    width, height = int(match[2]), int(match[3])
    samples = {b"5": 1, b"6": 3}.get(match[1], 0)  # the others pack bits or are text
    if width * height <= MAX_PIXELS and len(data) - match.end() < width * height * samples:
        raise UnreadableError("truncated PNM")
    return width, height


def _check_gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack("<HH", data[6:10])
    return width, height


def _check_avif(data: bytes) -> tuple[int, int]:
    """The largest of the image items (`ispe` boxes): the others are thumbnails and tiles."""
    sizes = [
        struct.unpack(">II", data[match.end() + 4 : match.end() + 12])
        for match in re.finditer(b"ispe", data[:65_536])
    ]
    if not sizes:
        raise UnreadableError("damaged header")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return width, height


_STARTS = {
    _JPEG: "JPEG", _PNG: "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP",
    b"GIF87a": "GIF", b"GIF89a": "GIF",
}  # fmt: skip

_CHECKS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _check_jpeg, "PNG": _check_png, "TIFF": _check_tiff, "BMP": _check_bmp,
    "WebP": _check_webp, "PNM": _check_pnm, "GIF": _check_gif, "AVIF": _check_avif,
}  # fmt: skip
"""Each returns the width and height that the header claims, 0 for none."""
