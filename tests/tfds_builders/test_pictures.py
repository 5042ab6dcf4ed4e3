"""Picture files: what is whole is decoded, what is not is named, marks survive."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from tfds_builders import pictures

RGB = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def _encoded(ending: str, options: tuple[int, ...] = ()) -> bytes:
    return cv2.imencode(ending, cv2.cvtColor(RGB, cv2.COLOR_RGB2BGR), options)[1].tobytes()


PNG, TIFF, BMP = _encoded(".png"), _encoded(".tiff"), _encoded(".bmp")
STRIPS = _encoded(".tiff", (cv2.IMWRITE_TIFF_ROWSPERSTRIP, 2, cv2.IMWRITE_TIFF_COMPRESSION, 1))
JPEG = pictures.encode_jpeg(RGB, 95)


@pytest.mark.parametrize("data", [PNG, TIFF, STRIPS, BMP], ids=["png", "tiff", "strips", "bmp"])
def test_lossless_files_come_as_they_are(data: bytes) -> None:
    np.testing.assert_array_equal(pictures.decode(data), RGB)
    np.testing.assert_array_equal(pictures.decode(pictures.mark_stand_in(data)), RGB)


def test_a_jpeg_comes_nearly_as_it_is() -> None:
    smooth = np.full((20, 30, 3), (200, 60, 10), np.uint8)
    data = pictures.encode_jpeg(smooth, 95)
    assert np.abs(pictures.decode(data).astype(int) - smooth).max() < 4
    np.testing.assert_array_equal(
        pictures.decode(pictures.mark_stand_in(data)), pictures.decode(data)
    )


@pytest.mark.parametrize("data", [JPEG, PNG, TIFF, BMP], ids=["jpeg", "png", "tiff", "bmp"])
def test_the_mark_of_a_stand_in_is_found(data: bytes) -> None:
    assert not pictures.is_stand_in(data)
    assert pictures.is_stand_in(pictures.mark_stand_in(data))


@pytest.mark.parametrize("data", [JPEG, PNG, STRIPS, BMP], ids=["jpeg", "png", "strips", "bmp"])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.97])
def test_a_truncated_file_is_named(data: bytes, share: float) -> None:
    with pytest.raises(pictures.UnreadableError, match=r"truncated|no pixels|damaged header"):
        pictures.decode(data[: int(share * len(data))])


def test_a_tiff_whose_strips_lie_beyond_its_end_is_truncated() -> None:
    start = struct.unpack("<I", TIFF[4:8])[0]
    data = bytearray(TIFF)
    for entry in range(start + 2, len(data) - 12, 12):
        if struct.unpack("<H", data[entry : entry + 2])[0] == 279:  # StripByteCounts, one here
            data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, len(data))
    with pytest.raises(pictures.UnreadableError, match="truncated"):
        pictures.decode(bytes(data))


def _huge(data: bytes, at: int, form: str) -> bytes:
    numbers = struct.pack(form, 60_000, 60_000)
    return data[:at] + numbers + data[at + len(numbers) :]


@pytest.mark.parametrize(
    "data",
    [
        _huge(JPEG, JPEG.index(b"\xff\xc0") + 5, ">HH"),
        _huge(PNG, 16, ">II"),
        _huge(BMP, 18, "<ii"),
    ],
    ids=["jpeg", "png", "bmp"],
)
def test_a_huge_picture_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(pictures.UnreadableError, match="60000 x 60000 pixels"):
        pictures.decode(data)


def test_a_huge_tiff_is_refused_too() -> None:
    start = struct.unpack("<I", TIFF[4:8])[0]
    data = bytearray(TIFF)
    for entry in range(start + 2, len(data) - 12, 12):
        tag = struct.unpack("<H", data[entry : entry + 2])[0]
        if tag in (256, 257):
            data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 60_000)
    with pytest.raises(pictures.UnreadableError, match="60000 x 60000 pixels"):
        pictures.decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"<html>", "not a JPEG, PNG, TIFF or BMP"),
        (b"II*\0" + b"\xff" * 40, "trunc"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, says: str) -> None:
    with pytest.raises(pictures.UnreadableError, match=says):
        pictures.decode(data)


def test_grey_pictures_have_three_channels() -> None:
    grey = cv2.imencode(".png", RGB[..., 0])[1].tobytes()
    np.testing.assert_array_equal(pictures.decode(grey), np.repeat(RGB[..., :1], 3, axis=-1))
    assert pictures.is_colour_jpeg(JPEG)
    assert not pictures.is_colour_jpeg(cv2.imencode(".jpg", RGB[..., 0])[1].tobytes())
    assert not pictures.is_colour_jpeg(PNG)
