"""Image files: intact ones are decoded, damaged, truncated and huge ones are refused."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import types
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_jax.faces.decode import (
    FORMATS,
    MAX_JPEG_PIXELS,
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


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".heic", ".heif"}))
def test_every_suffix_that_a_folder_is_searched_for_can_be_decoded(suffix: str) -> None:
    image = RGB[..., 0] if suffix in (".pgm", ".pbm") else RGB
    encoded = cv2.imencode(".jpg" if suffix == ".jfif" else suffix, image)[1].tobytes()
    assert decode(encoded).shape == (20, 30, 3)


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
        (b"<html>", FORMATS, "not a JPEG, PNG, TIFF, BMP, WebP, PNM, GIF, AVIF or HEIC"),
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


SMOOTH = cv2.resize(RGB, (1200, 800), interpolation=cv2.INTER_CUBIC)
KINDS = {
    "sequential": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 20),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [0, 1000])
@pytest.mark.parametrize("lost", [0, 2, 12])
def test_a_jpeg_that_is_padded_or_lacks_its_last_bytes_is_read(
    kind: str, padding: int, lost: int
) -> None:
    whole = _encoded(".jpg", KINDS[kind], SMOOTH)
    read = decode(whole[: len(whole) - lost] + bytes(padding))
    np.testing.assert_array_equal(read[:760], decode(whole)[:760])
    if lost == 2:
        np.testing.assert_array_equal(read, decode(whole))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_jpeg_that_lacks_more_is_refused(kind: str, share: float) -> None:
    whole = _encoded(".jpg", KINDS[kind], SMOOTH)
    with pytest.raises(UnreadableError, match="truncated JPEG"):
        decode(whole[: int(share * len(whole))] + bytes(1000))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".avif", ".gif"])
def test_transparent_pixels_are_white(suffix: str) -> None:
    """Cutting tools leave colors under the transparency."""
    image = np.full((80, 90, 4), (255, 0, 255, 0), np.uint8)
    image[20:60, 20:60] = (90, 120, 200, 255)
    read = decode(cv2.imencode(suffix, image)[1].tobytes()).astype(int)
    assert np.abs(read[5, 5] - 255).max() <= 2
    assert np.abs(read[40, 40] - (200, 120, 90)).max() <= 40  # GIF has few colors


def test_half_transparent_pixels_are_blended_and_oriented() -> None:
    image = np.full((80, 90, 4), (0, 0, 0, 255), np.uint8)
    image[60:, 70:, :3] = 100
    image[:10, :20, 3] = 51
    png = cv2.imencode(".png", image)[1].tobytes()
    assert decode(png)[5, 5].tolist() == [204] * 3
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    chunk = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    turned = decode(png[:33] + chunk + png[33:])
    np.testing.assert_array_equal(turned, np.rot90(decode(png), -1))


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_images_fill_8_bits(suffix: str, bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 40 * 50).reshape(40, 50).astype(np.uint16)
    read = decode(cv2.imencode(suffix, ramp)[1].tobytes())[..., 0]
    np.testing.assert_array_equal(read, ramp >> (bits - 8))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF"])
def test_the_first_image_of_an_animation_is_read(kind: str) -> None:
    first, *others = [Image.new("RGB", (40, 50), (level,) * 3) for level in (10, 120, 240)]
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=others)
    assert np.abs(decode(file.getvalue()).astype(int) - 10).max() <= 2


@pytest.mark.parametrize(
    ("width", "height", "is_read"),
    [(3000, 1, False), (1, 3000, False), (2000, 7, False), (2000, 20, True), (20, 2001, False)],
)
def test_an_image_too_narrow_for_a_face_is_refused(width: int, height: int, is_read: bool) -> None:
    data = _encoded(".png", image=np.zeros((height, width, 3), np.uint8))
    if is_read:
        assert decode(data).shape == (height, width, 3)
        return
    with pytest.raises(UnreadableError, match=f"{width} x {height} pixels, too narrow"):
        decode(data)


def test_a_phones_largest_photo_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _encoded(".jpg", image=SMOOTH)
    monkeypatch.setattr("fer_jax.faces.decode.MAX_PIXELS", 500_000)
    assert decode(data).shape == (400, 600, 3)
    assert decode(data[:-2]).shape == (400, 600, 3)
    with pytest.raises(UnreadableError, match="1200 x 800 pixels, more than 500,000"):
        decode(_encoded(".jpg", KINDS["progressive"], SMOOTH))  # needs all coefficients at once
    monkeypatch.setattr("fer_jax.faces.decode.MAX_JPEG_PIXELS", 900_000)
    with pytest.raises(UnreadableError, match="1200 x 800 pixels, more than 900,000"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [_huge(PNG, 16, ">II", 9_000), _huge(GIF, 6, "<HH", 9_000), _huge(WEBP, 0, "<HH", 0)],
    ids=["png", "gif", "not an image"],
)
def test_a_few_bytes_that_claim_a_large_image_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"9000 x 9000 pixels claimed by|not a"):
        decode(data)


def test_opencvs_own_limit_is_set_before_it_is_loaded() -> None:
    program = (
        "import fer_jax, cv2, numpy\n"
        "header = b'P5 60000 60000 255 '\n"
        "try: cv2.imdecode(numpy.frombuffer(header, numpy.uint8), 1)\n"
        "except cv2.error as error: print(error)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENCV_IO_MAX_IMAGE_PIXELS"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert "pixels <= CV_IO_MAX_IMAGE_PIXELS" in done.stdout, done.stderr
    assert os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] == str(MAX_JPEG_PIXELS)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"ispe\0\0\0\0" + struct.pack(">II", 30, 20)


def test_heic_is_read_by_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableError, match=r"pip install 'fer-jax\[heic\]'"):
        decode(HEIC)
    library = types.SimpleNamespace(open_heif=lambda data, convert_hdr_to_8bit: RGB)
    monkeypatch.setitem(sys.modules, "pillow_heif", library)
    np.testing.assert_array_equal(decode(HEIC), RGB)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(UnreadableError, match="not a regular file"):
            read_image(path)


def test_mutated_files_are_read_or_refused() -> None:
    """Seeded: each file has a few bytes changed, inserted or cut out."""
    rng = np.random.default_rng(5)
    small = cv2.resize(SMOOTH, (90, 60))
    whole = [_encoded(suffix, image=small) for suffix in (".jpg", ".png", ".tiff", ".bmp", ".webp",
             ".ppm", ".gif", ".avif")]  # fmt: skip
    for data in [*whole, HEIC] * 40:
        changed = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(len(changed)) * rng.choice([0.02, 1]))
            kept = at + int(rng.choice([0, 1, 30]))
            changed[at:kept] = rng.bytes(int(rng.choice([0, 1, 30])))
        try:
            image = decode(bytes(changed))
        except UnreadableError:
            continue
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
