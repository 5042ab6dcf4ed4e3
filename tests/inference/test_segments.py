"""Segments of videos: they have the frames of one pass, whatever the container."""

from __future__ import annotations

import pathlib
import struct
import tempfile
import zlib

import cv2
import numpy as np
import pytest

from fer_jax.inference import segments, sources

FRAMES, LENGTH, LEAD = 200, 40, 30


def write(path: pathlib.Path, codec: str, seed: int = 0) -> bytes:
    """Writes a video whose frames all differ, and returns its bytes."""
    codec_number = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec_number, 25, (96, 64))
    scene = np.random.default_rng(seed).integers(0, 255, (8, 12, 3), np.uint8)
    scene = scene.repeat(8, 0).repeat(8, 1)
    for number in range(FRAMES):
        image = np.roll(scene, number, 1)
        cv2.putText(image, str(number), (20, 40), cv2.FONT_HERSHEY_PLAIN, 2, (0, 0, 0), 2)
        writer.write(image)
    writer.release()
    return path.read_bytes()


def rotated(content: bytes) -> bytes:
    """Turns an MP4 file by the matrix in its header, as phones do."""
    at = content.index(b"tkhd") + 44
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    return content[:at] + matrix + content[at + 36 :]


def varying_rate(content: bytes) -> bytes:
    """Shows each frame of an MP4 file from the 100th on for a quarter of the time."""
    at = content.index(b"stts") + 8
    (delta,) = struct.unpack_from(">I", content, at + 8)
    table = struct.pack(">5I", 2, 100, delta, FRAMES - 100, delta // 4)
    changed = bytearray(content[:at] + table + content[at + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        place = changed.index(box) - 4
        (size,) = struct.unpack_from(">I", changed, place)
        struct.pack_into(">I", changed, place, size + 8)
    return bytes(changed)


def two_parts(content: bytes) -> bytes:
    """Appends another transport stream, whose times start at 0 again."""
    with tempfile.TemporaryDirectory() as folder:
        return content + write(pathlib.Path(folder) / "b.ts", "mp4v", seed=1)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def says(count: int):
    """An AVI file whose header has another number of frames."""

    def change(content: bytes) -> bytes:
        at = content.index(b"strh") + 40
        return content[:at] + struct.pack("<I", count) + content[at + 4 :]

    return change


def one_pass(path: pathlib.Path) -> tuple[list, list[str]]:
    items = list(sources.frames(sources.Source(str(path), "video", path)))
    frames = [item for item in items if isinstance(item, sources.Frame)]
    errors = [item.reason for item in items if isinstance(item, sources.Unreadable)]
    return [(one.index, one.seconds, zlib.crc32(one.image)) for one in frames], errors


def in_segments(path: pathlib.Path) -> tuple[list, list[str], int]:
    """Frames, errors, and how many segments were sought."""
    sought = 0

    def work(segment: segments.Segment) -> segments.Part:
        part = segments.Part(segment)
        for frame in segments.read(part):
            part.rows.append([frame.index, frame.seconds, zlib.crc32(frame.image)])
        return part

    joiner = segments.Joiner(work)
    frames, errors = [], []
    for segment in segments.cut(str(path), LENGTH):
        part = work(segment)
        sought += part.number is None
        part = joiner.join(part)
        frames += [(part.number + index, *others) for index, *others in part.rows]
        errors += [part.error] * bool(part.error)
    return frames, errors, sought


@pytest.mark.parametrize(
    ("name", "codec", "change", "count", "error"),
    [
        ("a.mp4", "mp4v", bytes, FRAMES, ""),
        ("a.mov", "mp4v", bytes, FRAMES, ""),
        ("a.mkv", "mp4v", bytes, FRAMES, ""),
        ("a.avi", "MJPG", bytes, FRAMES, ""),
        ("vp8.webm", "VP80", bytes, FRAMES, ""),
        ("vp9.webm", "VP90", bytes, FRAMES, ""),
        ("a.wmv", "WMV2", bytes, FRAMES, ""),
        ("a.mpg", "MPG2", bytes, FRAMES, ""),
        ("a.ts", "mp4v", bytes, FRAMES, ""),
        ("rotated.mp4", "mp4v", rotated, FRAMES, ""),
        ("varying_rate.mp4", "mp4v", varying_rate, FRAMES, ""),
        ("header_says_more.avi", "MJPG", says(2 * FRAMES), FRAMES, "damaged: 200 of 400 frames"),
        ("header_says_fewer.avi", "MJPG", says(50), FRAMES, ""),
        ("two_parts.ts", "mp4v", two_parts, 2 * FRAMES, ""),
        ("half.avi", "MJPG", half, 102, "damaged: 102 of 200 frames"),
        ("half.mp4", "mp4v", half, 0, "not a video"),
    ],
    ids=lambda value: value if "." in str(value) else "",
)
def test_segments_have_the_frames_of_one_pass(
    tmp_path, monkeypatch, name, codec, change, count, error
):
    monkeypatch.setattr(segments, "_LEAD", LEAD)
    path = tmp_path / name
    path.write_bytes(change(write(path, codec)))
    expected, reasons = one_pass(path)
    found, errors, sought = in_segments(path)
    assert found == expected
    assert len(found) == count
    assert errors == reasons
    assert len(errors) == bool(error)
    assert error in "".join(errors)
    assert sought >= bool(count)
