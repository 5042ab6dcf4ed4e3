"""Small stand-ins of the sets, functions that damage a copy, and reading a copy.

A damage function takes a folder that it may change, and returns the `manual_dir` to read.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import shutil
import struct
import zipfile
from collections.abc import Callable

import pytest

from fer_jax import errors
from tfds_builders import manual
from tfds_builders import prepare as build
from tfds_builders.stand_ins import write as stand_in

Damage = Callable[[pathlib.Path], pathlib.Path]


def write_stand_in(factory: pytest.TempPathFactory, name: str, scale: float) -> pathlib.Path:
    """Writes a stand-in, which tests must not change."""
    with contextlib.redirect_stderr(io.StringIO()):
        return stand_in.write(name, factory.mktemp(name) / name, scale)


def get(name: str, tmp_path: pathlib.Path, manual_dir: pathlib.Path, variant: str | None = None):
    return build.get(name, variant, str(tmp_path / "data"), str(manual_dir))


def open_copy(name: str, tmp_path: pathlib.Path, manual_dir: pathlib.Path, variant=None):
    """Opens a copy: reads its file names and label files."""
    return get(name, tmp_path, manual_dir, variant).open(manual_dir)


def read(name: str, tmp_path: pathlib.Path, manual_dir: pathlib.Path, variant=None) -> list[dict]:
    """Returns all examples of a copy, without writing them."""
    builder = get(name, tmp_path, manual_dir, variant)
    return [example for pairs in builder.generate(manual_dir).values() for _, example in pairs]


def check(
    name: str,
    damage: Damage,
    message: str,
    tree: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    variant: str | None = None,
) -> None:
    """Checks for a `UserError` of the form "expected ..., found ..." that contains `message`."""
    manual_dir = damage(pathlib.Path(shutil.copytree(tree, tmp_path / "damaged")))
    monkeypatch.setattr(manual.ManualBuilder, "MAX_UNREADABLE", 0)
    with (
        contextlib.redirect_stderr(io.StringIO()),
        pytest.raises(errors.UserError, match=re.escape(message)) as raised,
    ):
        read(name, tmp_path, manual_dir, variant)
    assert re.search(r"expected .*found", str(raised.value), re.DOTALL)
    assert not (tmp_path / "data").exists()


def content(tree: pathlib.Path) -> dict[str, bytes]:
    """File name below `tree` to content."""
    files = (one for one in tree.rglob("*") if one.is_file())
    return {file.relative_to(tree).as_posix(): file.read_bytes() for file in files}


def pack(tree: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(one for one in tree.rglob("*") if one.is_file()):
            archive.write(file, file.relative_to(tree))
    return target


def nowhere(root: pathlib.Path) -> pathlib.Path:
    return root / "nowhere"


def empty(root: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(root)
    root.mkdir()
    return root


def wrong_archive(root: pathlib.Path) -> pathlib.Path:
    target = empty(root) / "download.zip"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("RaFD/Rafd090_01_Caucasian_female_angry_frontal.jpg", b"")
    return target


def half_an_archive(root: pathlib.Path) -> pathlib.Path:
    target = pack(root, root.parent / "half.zip")
    target.write_bytes(target.read_bytes()[:5000])
    return target


def outside(root: pathlib.Path) -> pathlib.Path:
    target = pack(root, root.parent / "outside.zip")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("../../evil.png", b"")
    return target


def removed(pattern: str) -> Damage:
    def damage(root: pathlib.Path) -> pathlib.Path:
        for file in sorted(root.glob(pattern), reverse=True):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        return root

    return damage


def rewritten(pattern: str, change: Callable[[bytes], bytes]) -> Damage:
    """Changes the content of the first matching file."""

    def damage(root: pathlib.Path) -> pathlib.Path:
        file = sorted(root.glob(pattern))[0]
        file.write_bytes(change(file.read_bytes()))
        return root

    return damage


def replaced(pattern: str, old: str, new: str) -> Damage:
    """Replaces the first occurrence of a text in the first matching file."""

    def change(data: bytes) -> bytes:
        assert old.encode() in data, f"no {old!r} to replace"
        return data.replace(old.encode(), new.encode(), 1)

    return rewritten(pattern, change)


def renamed(pattern: str, name: str) -> Damage:
    def damage(root: pathlib.Path) -> pathlib.Path:
        first = sorted(root.glob(pattern))[0]
        first.rename(first.with_name(name))
        return root

    return damage


def added(file: str, data: bytes = b"") -> Damage:
    def damage(root: pathlib.Path) -> pathlib.Path:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(data)
        return root

    return damage


def truncated(pattern: str) -> Damage:
    return rewritten(pattern, lambda data: data[: len(data) // 2])


def no_image(pattern: str) -> Damage:
    return rewritten(pattern, lambda data: b"<html>not found</html>")


def huge(pattern: str) -> Damage:
    """A header that claims 60,000 x 60,000 pixels."""
    return rewritten(pattern, _claim_pixels)


def _claim_pixels(data: bytes) -> bytes:
    changed = bytearray(data)
    if data.startswith(b"\x89PNG"):
        changed[16:24] = struct.pack(">II", 60_000, 60_000)
    elif data[:2] == b"\xff\xd8":
        at = data.index(b"\xff\xc0") + 5
        changed[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    else:  # a little-endian TIFF, as OpenCV writes it
        (start,) = struct.unpack("<I", data[4:8])
        (count,) = struct.unpack("<H", data[start : start + 2])
        for at in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack("<H", data[at : at + 2])[0] in (256, 257):
                changed[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 60_000)
    return bytes(changed)


def common(pattern: str, expected: str) -> list:
    """Damages for every set of image files; `expected` is what its error message expects."""
    return [
        pytest.param(nowhere, "no such folder", id="nowhere"),
        pytest.param(empty, expected, id="empty"),
        pytest.param(wrong_archive, expected, id="wrong_archive"),
        pytest.param(half_an_archive, "cannot be read", id="half_an_archive"),
        pytest.param(outside, "points outside", id="outside"),
        pytest.param(truncated(pattern), "truncated", id="truncated"),
        pytest.param(no_image(pattern), "not a JPEG, PNG, TIFF, BMP", id="no_image"),
        pytest.param(huge(pattern), "60000 x 60000 pixels", id="huge"),
    ]
