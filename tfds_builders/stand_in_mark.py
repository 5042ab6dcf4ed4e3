"""The mark of a stand-in: a comment in each of its images, a text file in its root.

With it no copy of a stand-in passes for the real set.
"""

from __future__ import annotations

import struct
import zlib

STAND_IN_COMMENT = b"fer_jax stand-in: rendered face, no person"
STAND_IN_FILE = "STAND_IN.txt"
"""In the root of every stand-in, for files that cannot hold a comment (csv, video)."""

_JPEG_COMMENT = 0xFE
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 33  # signature, length, "IHDR", 13 bytes, checksum


def mark_stand_in(data: bytes) -> bytes:
    """Adds the comment to an image file; decoders ignore it.

    In a comment segment of a JPEG, a text chunk of a PNG, after the end of any other.
    """
    if data.startswith(_PNG):
        body = b"tEXt" + b"Comment\0" + STAND_IN_COMMENT
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return data[:_PNG_HEADER] + chunk + data[_PNG_HEADER:]
    if data[:2] == b"\xff\xd8":
        length = len(STAND_IN_COMMENT) + 2
        segment = struct.pack(">BBH", 0xFF, _JPEG_COMMENT, length) + STAND_IN_COMMENT
        return data[:2] + segment + data[2:]
    return data + STAND_IN_COMMENT


def is_stand_in(data: bytes) -> bool:
    """Whether an image file carries the comment."""
    return STAND_IN_COMMENT in data[:256] or data.endswith(STAND_IN_COMMENT)
