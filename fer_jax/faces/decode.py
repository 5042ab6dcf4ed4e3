"""Decodes image files to pixels, with the checks that OpenCV leaves out.

OpenCV fills the missing end of a truncated file with gray, and allocates gigabytes for a small
file whose header claims them. The checks here refuse both before decoding. Pixels are oriented
according to the EXIF header, transparent ones are blended with white, and of an animation the
first image is read.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

SUFFIXES = frozenset({
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm",
    ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
"""File suffixes that count as images when a folder is searched."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WebP", "PNM", "GIF", "AVIF", "HEIC")
"""Formats that `decode` accepts by default. HEIC needs the extra `heic`."""

MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000  # twice a large camera's; a larger JPEG is reduced to it
MAX_JPEG_PIXELS = 250_000_000  # more than a phone's 200 megapixels
MIN_SIDE, MAX_SIDE = 8, 20_000  # the square around a longer image needs gigabytes
MAX_ASPECT = 100
"""Longer side by shorter side; a longer strip shows no face."""

_HOLLOW_PIXELS = 10_000_000
_HOLLOW_RATIO = 4_000  # pixels per byte; a photo has less than 100, a blank PNG about 1,000
_LOSABLE = 0.03  # share of a JPEG's rows that may lack at its end

_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_SCAN = 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 less DHT, JPG, DAC
_PNG = b"\x89PNG\r\n\x1a\n"
_PNM = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)")
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_OFFSETS, _TIFF_LENGTHS = 256, 257, 273, 279
_TIFF_TYPES = {3: "H", 4: "I"}  # SHORT and LONG, the only types these four tags may have


class UnreadableError(Exception):
    """An image or video cannot be read; the message is a short reason."""


class TooLargeError(UnreadableError):
    """An image has more bytes or pixels than `read_image` and `decode` take."""


def read_image(path: Path) -> np.ndarray:
    """Reads an image file as uint8[H, W, 3] RGB.

    Raises:
      UnreadableError: The file is missing, no regular file, larger than `MAX_BYTES`, or fails
        `decode`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, /dev/zero never ends
            raise UnreadableError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise TooLargeError(f"larger than {MAX_BYTES // 1_000_000} MB")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(reason.lower()) from error
    return decode(data)


def decode(data: bytes, formats: Collection[str] = FORMATS) -> np.ndarray:
    """Decodes an image file; its content decides the format, not its name.

    Args:
      data: content of the file.
      formats: the accepted formats, some of `FORMATS`.

    Returns:
      uint8[H, W, 3], RGB. A JPEG of more than `MAX_PIXELS` is decoded at half the size.

    Raises:
      UnreadableError: The file is empty, truncated, damaged, of another format, has more than
        `MAX_PIXELS` pixels (JPEG: `MAX_JPEG_PIXELS`), or has a shape that `check_shape` refuses.
    """
    if not data:
        raise UnreadableError("empty file")
    name = _format(data)
    if name not in formats:
        *most, last = formats
        raise UnreadableError(f"not a {' or '.join([', '.join(most), last] if most else [last])}")
    try:
        is_reduced = _check_size(name, data)
        if name == "JPEG" and not _has_end(data):
            data = _complete_jpeg(data, is_reduced)
        has_alpha = name in _MAY_HAVE_ALPHA and _MAY_HAVE_ALPHA[name](data)
    except (struct.error, IndexError) as error:
        raise UnreadableError(f"truncated {name}") from error
    image = _decode_heic(data) if name == "HEIC" else _decode(name, data, is_reduced, has_alpha)
    check_shape(image.shape[1], image.shape[0])
    return image


def _check_size(name: str, data: bytes) -> bool:
    """Checks what the header claims; returns whether to decode at half the size."""
    width, height = _CHECKS[name](data)
    is_large = width * height > MAX_PIXELS or max(width, height) > MAX_SIDE
    is_reduced = name == "JPEG" and is_large and _can_reduce(data)
    limit = MAX_JPEG_PIXELS if is_reduced else MAX_PIXELS
    if width * height > limit:
        raise TooLargeError(f"{width} x {height} pixels, more than {limit:,}")
    if width * height > max(_HOLLOW_PIXELS, _HOLLOW_RATIO * len(data)):
        raise UnreadableError(f"{width} x {height} pixels claimed by {len(data):,} bytes")
    check_shape(width >> is_reduced, height >> is_reduced)
    return is_reduced


def _decode(name: str, data: bytes, is_reduced: bool, has_alpha: bool) -> np.ndarray:
    image = _imdecode(data, _flags(name, data, is_reduced))
    if image is None:
        raise UnreadableError("cannot be decoded")
    if image.dtype == np.uint16:
        image = _to_8_bits(image)
    if has_alpha:
        image = _blend(_imdecode(data, cv2.IMREAD_UNCHANGED), image)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def check_shape(width: int, height: int) -> None:
    """Checks that an image can show a face.

    Raises:
      UnreadableError: a side is below `MIN_SIDE` or above `MAX_SIDE`, or the aspect ratio is
        above `MAX_ASPECT`.
    """
    if not width or not height:
        raise UnreadableError("no pixels")
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableError(f"{width} x {height} pixels, too narrow for a face")
    if max(width, height) > MAX_SIDE:
        raise TooLargeError(f"{width} x {height} pixels, a side of more than {MAX_SIDE:,}")


def blend_with_white(image: np.ndarray) -> np.ndarray:
    """Blends uint8[H, W, 4], the last channel being opacity, with white: uint8[H, W, 3]."""
    opacity = image[..., 3:].astype(np.float32) / 255
    return np.round(image[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)


def is_color_jpeg(data: bytes) -> bool:
    """Whether `data` is a JPEG file with three channels.

    Raises:
      UnreadableError: A JPEG file with a damaged header.
    """
    return data.startswith(_JPEG) and _jpeg_header(data).channels == 3


def _format(data: bytes) -> str:
    """The name in `FORMATS` of the format that `data` starts with; "" if none."""
    for start, name in _STARTS.items():
        if data.startswith(start):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        box = data[8 : int.from_bytes(data[:4], "big")]
        brands = {box[at : at + 4] for at in range(0, min(len(box), 128), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIC" if brands & _HEIC_BRANDS else ""
    return "PNM" if _PNM.match(data) else ""


def _imdecode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _flags(name: str, data: bytes, is_reduced: bool) -> int:
    """How OpenCV decodes a file: in color, 16-bit samples unchanged, a huge JPEG at half size."""
    if is_reduced:
        return int(cv2.IMREAD_REDUCED_COLOR_2)
    is_deep = (name == "PNG" and data[24] == 16) or name in ("TIFF", "PNM")
    return int(cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if is_deep else cv2.IMREAD_COLOR)


def _to_8_bits(image: np.ndarray) -> np.ndarray:
    """Scales 16-bit samples to 8 bits; some cameras store 10 or 12 bits in the lower ones."""
    peak = int(image.max())
    bits = next(bits for bits in (10, 12, 16) if peak < 1 << bits)
    return (image >> (bits - 8)).astype(np.uint8)


def _blend(unchanged: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    """Blends an image with white.

    Args:
      unchanged: uint8 or uint16[H, W, 4] BGRA as stored, not oriented; anything else is opaque.
      image: uint8[H', W', 3] BGR, the same image oriented by EXIF.
    """
    if unchanged is None or unchanged.ndim != 3 or unchanged.shape[2] != 4:
        return image
    if unchanged.dtype == np.uint16:
        opacity = (unchanged[..., 3:] >> 8).astype(np.uint8)
        unchanged = np.concatenate([_to_8_bits(unchanged[..., :3]), opacity], axis=2)
    if unchanged[..., 3].min() == 255:
        return image
    # OpenCV orients by EXIF only without alpha: find the orientation that it applied.
    for flipped in (unchanged, unchanged[:, ::-1]):
        for turns in range(4):
            turned = np.rot90(flipped, turns)
            if np.array_equal(turned[..., :3], image):
                return blend_with_white(turned)
    return blend_with_white(unchanged)


def _decode_heic(data: bytes) -> np.ndarray:
    try:
        import pillow_heif
    except ImportError:
        raise UnreadableError(
            "HEIC, which needs pip install 'fer-jax[heic]'; or convert it to JPEG"
        ) from None
    try:
        # Opening turns the image as its header says.
        file = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        image = np.asarray(file)
    except (ValueError, RuntimeError, EOFError, OSError, SyntaxError) as error:
        raise UnreadableError("damaged HEIC") from error
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    return blend_with_white(image) if image.shape[2] == 4 else image


def _png_has_alpha(data: bytes) -> bool:
    return data[25] in (4, 6) or b"tRNS" in data[: data.find(b"IDAT")]


def _webp_has_alpha(data: bytes) -> bool:
    return data[12:16] == b"VP8L" or (data[12:16] == b"VP8X" and bool(data[20] & 0x10))


def _check_jpeg(data: bytes) -> tuple[int, int]:
    header = _jpeg_header(data)
    return header.width, header.height


def _can_reduce(data: bytes) -> bool:
    """Whether a JPEG can be decoded at half size without all its coefficients in memory."""
    return _jpeg_header(data).frame in (0xC0, 0xC1)


def _has_end(data: bytes) -> bool:
    """Whether a JPEG has its end marker; the one of an embedded thumbnail does not count."""
    return data.endswith(_JPEG_END) or data.find(_JPEG_END, _jpeg_header(data).scan) >= 0


def _complete_jpeg(data: bytes, is_reduced: bool) -> bytes:
    """Returns a JPEG with the end marker that it lacks.

    Decodes it twice, with different bytes in place of what may lack: where the results differ,
    there was no data.

    Raises:
      UnreadableError: More than `_LOSABLE` of its rows lack.
    """
    data = data.rstrip(b"\0")  # padding
    last_scan = data.rfind(b"\xff\xda")
    components = data[last_scan + 4]
    is_last_bit = data[last_scan + 7 + 2 * components] & 0x0F == 0
    noise = np.random.default_rng(0).integers(0, 255, 4096, np.uint8).tobytes()  # never 0xFF
    restarts = [at[0][1] & 7 for at in re.finditer(b"\xff[\xd0-\xd7]", data[last_scan:])]
    following = restarts[-1] + 1 if restarts else 0
    tail = b"".join(
        noise + bytes((0xFF, 0xD0 | (following + number) & 7)) for number in range(4)
    )  # fmt: skip
    flags = cv2.IMREAD_REDUCED_COLOR_2 if is_reduced else cv2.IMREAD_COLOR
    flags |= cv2.IMREAD_IGNORE_ORIENTATION  # rows are those of the file
    ended, continued = _imdecode(data + _JPEG_END, flags), _imdecode(data + tail + _JPEG_END, flags)
    if ended is None or continued is None or ended.shape != continued.shape or not is_last_bit:
        raise UnreadableError("truncated JPEG")
    rows = (ended != continued).any(axis=(1, 2))
    if rows.any() and len(rows) - int(rows.argmax()) > _LOSABLE * len(rows):
        raise UnreadableError("truncated JPEG")
    return data + _JPEG_END


class _JpegHeader(NamedTuple):
    """What the header of a JPEG file says; `scan` is the offset of the first scan."""

    width: int
    height: int
    channels: int
    frame: int
    scan: int


def _jpeg_header(data: bytes) -> _JpegHeader:
    """Reads the header; skips embedded thumbnails."""
    position, width, height, channels, frame = 2, 0, 0, 0, 0
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise UnreadableError("damaged header")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte before the marker
            position += 1
            continue
        if marker in _JPEG_FRAMES and position + 10 <= len(data):
            frame = marker
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            channels = data[position + 9]
        if marker == _JPEG_SCAN and width and height:
            return _JpegHeader(width, height, channels, frame, position)
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
    """The largest image item (`ispe` box) of AVIF or HEIC: the others are thumbnails and tiles."""
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

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

_CHECKS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _check_jpeg, "PNG": _check_png, "TIFF": _check_tiff, "BMP": _check_bmp,
    "WebP": _check_webp, "PNM": _check_pnm, "GIF": _check_gif, "AVIF": _check_avif,
    "HEIC": _check_avif,
}  # fmt: skip
"""Each returns the width and height that the header claims, 0 for none."""

_MAY_HAVE_ALPHA: dict[str, Callable[[bytes], bool]] = {
    "PNG": _png_has_alpha, "WebP": _webp_has_alpha, "TIFF": bool, "GIF": bool, "AVIF": bool,
}  # fmt: skip
"""Each returns whether a file may be transparent; opaque ones are decoded once."""
