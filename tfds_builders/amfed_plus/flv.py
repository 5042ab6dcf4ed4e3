"""Parses and edits the tags of FLV, the container format of AM-FED+'s videos.

The reader finds where a damaged file ends, because FFmpeg silently conceals missing data.
The stand-in writes timestamps of a variable frame rate, which OpenCV cannot. video.py
decodes the frames.

Source: Adobe Flash Video File Format Specification, version 10.1, annex E.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

SIGNATURE = b"FLV"

_TAG_HEADER = 11  # bytes: type 1, size 3, timestamp 3, timestamp extension 1, stream id 3
_BACK_POINTER = 4  # bytes: the size of a tag, after it
_AUDIO, _VIDEO, _SCRIPT = 8, 9, 18
_AVC, _AVC_HEADER = 7, 0  # the first tag of H.264 contains no frame


@dataclasses.dataclass(frozen=True)
class Tag:
    """One tag: offset in the file, type, timestamp in ms, size of the data in bytes."""

    start: int
    kind: int
    time: int
    size: int

    @property
    def end(self) -> int:
        """Offset of the next tag."""
        return self.start + _TAG_HEADER + self.size + _BACK_POINTER


@dataclasses.dataclass(frozen=True)
class Contents:
    """The frames of a file.

    Attributes:
      times: timestamps of the intact frames, in ms.
      damage: short description of the damage after them; "" if the file is intact.
    """

    times: tuple[int, ...]
    damage: str


def contents(data: bytes) -> Contents:
    """Finds the intact frames of an FLV file, without decoding them."""
    if data[:3] != SIGNATURE:
        return Contents((), "not an FLV video" if data else "empty")
    tags = list(_tags(data))
    times = tuple(tag.time for tag in tags if _is_frame(data, tag))
    end = tags[-1].end if tags else _first_tag(data)
    if not times:
        return Contents((), "no intact frame")
    if len(data) in (end, end - _BACK_POINTER):  # some writers omit the last pointer
        return Contents(times, "")
    is_truncated = len(data) < end + _TAG_HEADER or _is_tag(data, end)
    damage = f"truncated at byte {len(data):,}" if is_truncated else f"damaged at byte {end:,}"
    return Contents(times, damage)


def retime(data: bytes, times: Sequence[int]) -> bytes:
    """Returns a copy of an FLV file with the frame timestamps `times` (ms, ascending).

    Raises:
      ValueError: The number of frames is not the number of times.
    """
    copy = bytearray(data)
    frames = [tag for tag in _tags(data) if _is_frame(data, tag)]
    for tag, time in zip(frames, times, strict=True):
        low, high = time & 0xFFFFFF, time >> 24
        copy[tag.start + 4 : tag.start + 8] = low.to_bytes(3, "big") + bytes([high])
    return bytes(copy)


def with_comment(data: bytes, comment: bytes) -> bytes:
    """Returns a copy of an FLV file with a first script tag `comment`, which decoders skip."""
    body = b"\x02\x00\x07comment\x02" + len(comment).to_bytes(2, "big") + comment
    header = bytes([_SCRIPT]) + len(body).to_bytes(3, "big") + bytes(7)
    pointer = (_TAG_HEADER + len(body)).to_bytes(_BACK_POINTER, "big")
    start = _first_tag(data)
    return data[:start] + header + body + pointer + data[start:]


def _tags(data: bytes) -> Iterator[Tag]:
    """Yields the tags up to the end, or up to the first damaged one."""
    position = _first_tag(data)
    while position + _TAG_HEADER <= len(data) and _is_tag(data, position):
        size = int.from_bytes(data[position + 1 : position + 4], "big")
        if position + _TAG_HEADER + size > len(data):
            return
        low = int.from_bytes(data[position + 4 : position + 7], "big")
        tag = Tag(position, data[position], data[position + 7] << 24 | low, size)
        yield tag
        position = tag.end


def _first_tag(data: bytes) -> int:
    return int.from_bytes(data[5:9], "big") + _BACK_POINTER


def _is_tag(data: bytes, position: int) -> bool:
    kind, stream = data[position], data[position + 8 : position + _TAG_HEADER]
    return kind in (_AUDIO, _VIDEO, _SCRIPT) and stream == bytes(3)


def _is_frame(data: bytes, tag: Tag) -> bool:
    if tag.kind != _VIDEO or tag.size < 2:
        return False
    first, second = data[tag.start + _TAG_HEADER : tag.start + _TAG_HEADER + 2]
    return not (first & 0x0F == _AVC and second == _AVC_HEADER)
