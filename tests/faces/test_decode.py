"""Image files: intact ones are decoded, damaged, truncated and huge ones are refused."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from fer_jax.faces.decode import (
    FORMATS,
    SUFFIXES,
    UnreadableError,
    decode,
    is_color_jpeg,
    read_image,
)

RGB = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def _encoded(suffix: str, options: tuple[int, ...] = (), image: np.ndarray = RGB) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


PNG, TIFF, BMP, JPEG = (_encoded(suffix) for suffix in (".png", ".tiff", ".bmp", ".jpg"))
STRIPS = _encoded(".tiff", (cv2.IMWRITE_TIFF_ROWSPERSTRIP, 2, cv2.IMWRITE_TIFF_COMPRESSION, 1))
WEBP = _encoded(".webp", (cv2.IMWRITE_WEBP_QUALITY, 101))  # above 100: lossless
LOSSY = _encoded(".webp", (cv2.IMWRITE_WEBP_QUALITY, 80))
PPM, GIF = _encoded(".ppm"), b"GIF89a" + bytes(40)


@pytest.mark.parametrize(
    "data", [PNG, TIFF, STRIPS, BMP, WEBP, PPM], ids=["png", "tiff", "strips", "bmp", "webp", "ppm"]
)
def test_lossless_files_decode_exactly(data: bytes) -> None:
    np.testing.assert_array_equal(decode(data), RGB)
    np.testing.assert_array_equal(decode(data + b"trailing bytes"), RGB)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_lossy_file_decodes_approximately(suffix: str) -> None:
    smooth = np.full((20, 30, 3), (200, 60, 10), np.uint8)
    assert np.abs(decode(_encoded(suffix, image=smooth)).astype(int) - smooth).max() < 8


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_that_a_folder_is_searched_for_can_be_decoded(suffix: str) -> None:
    image = RGB[..., 0] if suffix == ".pgm" else RGB
    assert decode(cv2.imencode(suffix, image)[1].tobytes()).shape == (20, 30, 3)


def test_the_exif_orientation_is_applied() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    np.testing.assert_array_equal(decode(turned), np.rot90(decode(JPEG), -1))


@pytest.mark.parametrize(
    "data",
    [JPEG, PNG, STRIPS, BMP, WEBP, LOSSY, PPM],
    ids=["jpeg", "png", "strips", "bmp", "webp", "lossy webp", "ppm"],
)
@pytest.mark.parametrize("share", [0.05, 0.4, 0.97])
def test_a_truncated_file_is_refused(data: bytes, share: float) -> None:
    with pytest.raises(UnreadableError, match=r"truncated|no pixels|damaged header"):
        decode(data[: int(share * len(data))])


def _with_tiff_tag(tags: tuple[int, ...], value: int) -> bytes:
    """`TIFF` with other values of some tags."""
    start = struct.unpack("<I", TIFF[4:8])[0]
    data = bytearray(TIFF)
    for entry in range(start + 2, len(data) - 12, 12):
        if struct.unpack("<H", data[entry : entry + 2])[0] in tags:
            data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


def test_a_tiff_with_strips_beyond_its_end_is_truncated() -> None:
    with pytest.raises(UnreadableError, match="truncated TIFF"):
        decode(_with_tiff_tag((279,), len(TIFF)))  # StripByteCounts; there is one strip


def _huge(data: bytes, at: int, layout: str, side: int = 60_000) -> bytes:
    numbers = struct.pack(layout, side, side)
    return data[:at] + numbers + data[at + len(numbers) :]


@pytest.mark.parametrize(
    "data",
    [
        _huge(JPEG, JPEG.index(b"\xff\xc0") + 5, ">HH"),
        _huge(PNG, 16, ">II"),
        _huge(BMP, 18, "<ii"),
        _with_tiff_tag((256, 257), 60_000),
        PPM.replace(b"30 20", b"60000 60000"),
        _huge(GIF, 6, "<HH"),
        b"\0\0\0\x20ftypavif" + bytes(40) + b"ispe\0\0\0\0" + struct.pack(">II", 60_000, 60_000),
    ],
    ids=["jpeg", "png", "bmp", "tiff", "ppm", "gif", "avif"],
)
def test_a_huge_image_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="60000 x 60000 pixels"):
        decode(data)


@pytest.mark.parametrize("data", [WEBP, LOSSY], ids=["lossless", "lossy"])
def test_a_huge_webp_is_refused(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_jax.faces.decode.MAX_PIXELS", 599)
    with pytest.raises(UnreadableError, match="30 x 20 pixels, more than 599"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "formats", "reason"),
    [
        (b"", FORMATS, "empty file"),
        (b"<html>", FORMATS, "not a JPEG, PNG, TIFF, BMP, WebP, PNM, GIF or AVIF"),
        (WEBP, ("JPEG", "PNG"), "not a JPEG or PNG"),
        (PNG, ("JPEG",), "not a JPEG$"),
        (b"II*\0" + b"\xff" * 40, FORMATS, "truncated TIFF"),
        (JPEG[:20] + b"x" + JPEG[20:], FORMATS, "damaged header"),
    ],
)
def test_the_reason_of_a_refusal(data: bytes, formats: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        decode(data, formats)


def test_gray_images_get_three_channels() -> None:
    gray = cv2.imencode(".png", RGB[..., 0])[1].tobytes()
    np.testing.assert_array_equal(decode(gray), np.repeat(RGB[..., :1], 3, axis=-1))
    assert is_color_jpeg(JPEG)
    assert not is_color_jpeg(cv2.imencode(".jpg", RGB[..., 0])[1].tobytes())
    assert not is_color_jpeg(PNG)


def test_reading_a_file(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
    with pytest.raises(UnreadableError, match="no such file"):
        read_image(tmp_path / "gone.png")
    monkeypatch.setattr("fer_jax.faces.decode.MAX_BYTES", 100)
    with pytest.raises(UnreadableError, match="larger than"):
        read_image(tmp_path / "a.png")
