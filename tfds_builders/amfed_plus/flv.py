"""The container of AM-FED+'s videos, Adobe's FLV: its tags and their timestamps.

The reader needs to know where a damaged file stops being whole, because FFmpeg fills in
what is missing without a word. The stand-in needs other timestamps than OpenCV writes:
real files have a variable frame rate. It does not decode pictures (video.py).

Source: Adobe Flash Video File Format Specification, version 10.1, annex E.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

SIGNATURE = b"FLV"

_TAG_HEADER = 11  # type 1, size 3, timestamp 3 and 1 more on top, stream 3
_BACK_POINTER = 4  # the size of the tag before, behind each tag
_AUDIO, _VIDEO, _SCRIPT = 8, 9, 18
_AVC, _AVC_HEADER = 7, 0  # H.264's first tag holds no picture


@dataclasses.dataclass(frozen=True)
class Tag:
    """One tag: where it starts in the file, its kind, its timestamp in ms, its data's bytes."""

    start: int
    kind: int
    time: int
    size: int

    @property
    def end(self) -> int:
        """Where the next one starts."""
        return self.start + _TAG_HEADER + self.size + _BACK_POINTER


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
      times: Timestamps of the whole pictures, in ms.
      damage: What is wrong behind them, in a few words; "" where the file is whole.
    """

    times: tuple[int, ...]
    damage: str


def contents(data: bytes) -> Contents:
    """Walks over the tags of an FLV file; decodes nothing."""
    if data[:3] != SIGNATURE:
        return Contents((), "not an FLV video" if data else "empty")
    tags = list(_tags(data))
    times = tuple(tag.time for tag in tags if _is_picture(data, tag))
    end = tags[-1].end if tags else _first_tag(data)
    if not times:
        return Contents((), "no whole picture in it")
    if len(data) in (end, end - _BACK_POINTER):  # some writers leave the last pointer out
        return Contents(times, "")
    is_cut = len(data) < end + _TAG_HEADER or _is_tag(data, end)
    where = f"truncated at byte {len(data):,}" if is_cut else f"damaged at byte {end:,}"
    return Contents(times, where)


def retime(data: bytes, times: Sequence[int]) -> bytes:
    """A copy of an FLV file whose pictures have the timestamps `times` (ms, ascending).

    Raises:
      ValueError: There are not as many pictures as times.
    """
    copy = bytearray(data)
    pictures = [tag for tag in _tags(data) if _is_picture(data, tag)]
    for tag, time in zip(pictures, times, strict=True):
        low, high = time & 0xFFFFFF, time >> 24
        copy[tag.start + 4 : tag.start + 8] = low.to_bytes(3, "big") + bytes([high])
    return bytes(copy)


def with_comment(data: bytes, comment: bytes) -> bytes:
    """A copy of an FLV file that begins with a script tag of that text; decoders skip it."""
    body = b"\x02\x00\x07comment\x02" + len(comment).to_bytes(2, "big") + comment
    header = bytes([_SCRIPT]) + len(body).to_bytes(3, "big") + bytes(7)
    pointer = (_TAG_HEADER + len(body)).to_bytes(_BACK_POINTER, "big")
    start = _first_tag(data)
    return data[:start] + header + body + pointer + data[start:]


def _tags(data: bytes) -> Iterator[Tag]:
    """The whole tags up to the end, or up to the first that is none."""
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


def _is_picture(data: bytes, tag: Tag) -> bool:
    if tag.kind != _VIDEO or tag.size < 2:
        return False
    first, second = data[tag.start + _TAG_HEADER : tag.start + _TAG_HEADER + 2]
    return not (first & 0x0F == _AVC and second == _AVC_HEADER)
