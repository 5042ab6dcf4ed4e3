"""Sources: folders, archives, archives in archives, damaged and malicious archives."""

from __future__ import annotations

import io
import os
import pathlib
import re
import tarfile
import zipfile

import pytest

from fer_jax import errors
from tfds_builders import sources

FILES = {"Label/list.TXT": b"one 1\n", "Image/a.jpg": b"image a  " * 40, "Image/b.jpg": b"b"}


def _zip(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _spoiled(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 255
    return bytes(changed)


def _write(root: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def _inner(files: dict[str, bytes], folder: str) -> dict[str, bytes]:
    return {
        name.removeprefix(folder): data for name, data in files.items() if name.startswith(folder)
    }


def _nested(kind: int) -> dict[str, bytes]:
    """The tree with Image/ as an archive beside the label file."""
    return {
        "Label/list.TXT": FILES["Label/list.TXT"],
        "Image.zip": _zip(_inner(FILES, "Image/"), kind),
    }


LAYOUTS = {
    "folder": FILES,
    "zip": {"copy.zip": _zip(FILES)},
    "tar": {"copy.tar": _tar(FILES)},
    "tgz": {"copy.tgz": _tar(FILES, "w:gz")},
    "tar.bz2": {"copy.tar.bz2": _tar(FILES, "w:bz2")},
    "tar.xz": {"copy.TAR.XZ": _tar(FILES, "w:xz")},
    "an archive in the folder": _nested(zipfile.ZIP_STORED),
    "an archive in an archive": {"copy.zip": _zip(_nested(zipfile.ZIP_DEFLATED))},
    "a zip in a tgz": {"copy.tgz": _tar(_nested(zipfile.ZIP_DEFLATED), "w:gz")},
    "several archives": {
        "Label.zip": _zip(_inner(FILES, "Label/")),
        "Image.tar.gz": _tar(_inner(FILES, "Image/"), "w:gz"),
    },
    "unpacked beside the archive": FILES | {"Image.zip": _zip({"other.jpg": b""})},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_one_tree(layout: str, tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "copy", LAYOUTS[layout])
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    source = sources.gather(root)
    for name, data in FILES.items():
        (found,) = sources.find(source, re.escape(name.lower()))
        assert source.sizes()[found] == len(data)
        assert source.read(found) == data
        with source.stream(found) as stream:
            assert stream.read(3) + stream.read() == data
        with sources.local(source, found) as path:
            assert path.name == pathlib.PurePosixPath(name).name
            assert path.read_bytes() == data
    assert len(sources.files_with_suffix(source, (".jpg",))) == 2
    assert not sources.find(source, "other.jpg")
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_an_archive_may_have_any_name(tmp_path: pathlib.Path) -> None:
    _write(tmp_path, {"download (1).zip": _zip(_nested(zipfile.ZIP_STORED))})
    source = sources.gather(tmp_path / "download (1).zip")
    assert source.read("Image/b.jpg") == b"b"


def test_only_archives_of_the_set_are_opened(tmp_path: pathlib.Path) -> None:
    _write(tmp_path, {"rafd.zip": _zip({"x": b""}), "thesis.zip": b"not even a zip"})
    names = list(sources.gather(tmp_path, re.compile(r"rafd.*\.zip")).sizes())
    assert names == ["rafd.zip", "rafd/x", "thesis.zip"]


def test_shadow_files_of_macos_are_ignored(tmp_path: pathlib.Path) -> None:
    source = sources.FolderSource(_write(tmp_path, {"__MACOSX/a.jpg": b"", "x/._a.jpg": b""}))
    assert sources.find(source, r".*\.jpg") == []
    assert sources.files_with_suffix(source, (".jpg",)) == []


def test_temporary_files_have_no_name(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setattr(sources.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    root = _write(tmp_path / "copy", LAYOUTS["a zip in a tgz"])
    source = sources.gather(root)
    assert source.read(sources.find(source, "b.jpg")[0]) == b"b"
    assert os.listdir(tmp_path / "temporary") == []


def _links(path: pathlib.Path) -> None:
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"member{kind!r}")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)


def test_links_and_devices_in_a_tar_are_ignored(tmp_path: pathlib.Path) -> None:
    _links(tmp_path / "a.tar")
    assert sources.TarSource(tmp_path / "a.tar").sizes() == {}


BAD = {
    "zip slip": ("a.zip", _zip({"x/../../a": b""}), "points outside"),
    "absolute": ("a.zip", _zip({"/a": b""}), "points outside"),
    "windows": ("a.tar", _tar({"C:\\a": b""}), "points outside"),
    "tar slip": ("a.tar", _tar({"../a": b""}), "points outside"),
    "half a zip": ("a.zip", _zip(FILES)[:90], "a.zip, which cannot be read"),
    "half a tgz": ("a.tgz", _tar(FILES, "w:gz")[:90], "a.tgz, which cannot be read"),
    "half a tar": ("a.tar", _tar({"a": b"1" * 4000})[:700], "a.tar, which cannot be read"),
    "no archive": ("a.tar", b"<html>sign in</html>" * 90, "a.tar, which cannot be read"),
    "a tar without its end": (
        "a.tar", _tar({"a": b"1" * 400, "b": b"2" * 400})[:1024], "no end-of-archive block",
    ),
    "a damaged header": (
        "a.tar", _spoiled(_tar({"a": b"1" * 400, "b": b"2" * 400}), 1100), "no end-of-archive",
    ),
    "a damaged tgz": (
        "a.tgz", _spoiled(_tar({"a": bytes(range(256)) * 40}, "w:gz"), -6), "incomplete: get the",
    ),
    "a rar by its content": ("a.zip", b"Rar!\x1a\x07\0rest", "a rar archive. Unpack it"),
    "a zip bomb in a zip": (
        "a.zip", _zip({"b.zip": _zip({"c": bytes(2**22)}, zipfile.ZIP_STORED)}), "not a copy of",
    ),
    "a bomb": ("a.tgz", _tar({"a": bytes(2**20)}, "w:gz"), "not a copy of a data set"),
    "damaged inside": (
        "a.zip", _zip({"b.zip": _zip(FILES)[:90]}), "b.zip, which cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_is_refused(kind: str, tmp_path: pathlib.Path) -> None:
    name, data, message = BAD[kind]
    _write(tmp_path, {name: data})
    with pytest.raises(errors.UserError, match=re.escape(message)):
        sources.gather(tmp_path).sizes()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Image\\a.jpg", "Image/a.jpg"),  # PowerShell's Compress-Archive
        ("Image/12:30 a.jpg", "Image/12:30 a.jpg"),
        (".\\a.jpg", "./a.jpg"),
    ],
)
@pytest.mark.parametrize("pack", [_zip, _tar])
def test_names_of_other_systems(pack, written: str, read: str, tmp_path: pathlib.Path) -> None:
    # zipfile replaces os.sep only, so it writes backslashes on Linux.
    path = tmp_path / ("a.zip" if pack is _zip else "a.tar")
    path.write_bytes(pack({written: b"image"}))
    source = sources.open_archive(path)
    name = read if pack is _zip else read.removeprefix("./")
    assert list(source.sizes()) == [name]
    assert source.read(name) == b"image"
    assert source.touched == {name}


def test_folders_of_powershell_are_no_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.zip").write_bytes(_zip({"Image\\": b"", "Image\\a.jpg": b"image"}))
    assert list(sources.ZipSource(tmp_path / "a.zip").sizes()) == ["Image/a.jpg"]


def test_deep_folders_links_to_above_and_links_to_nothing(tmp_path: pathlib.Path) -> None:
    deep = "/".join("abcdefghijkl")
    root = _write(tmp_path / "copy", {f"{deep}/1.jpg": b"image"})
    (root / deep / "up").symlink_to(root)
    (root / "gone.jpg").symlink_to(tmp_path / "not mounted")
    source = sources.FolderSource(root)
    assert source.sizes() == {f"{deep}/1.jpg": 5, "gone.jpg": 0}
    with pytest.raises(sources.MemberError, match="No such file"):
        source.read("gone.jpg")
    assert sources.fingerprint(root)


def test_a_missing_folder_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.UserError, match=r"no such folder.*--manual_dir"):
        sources.gather(tmp_path / "gone")


@pytest.mark.parametrize("layout", ["folder", "zip", "tar", "an archive in the folder"])
def test_an_oversized_member_is_not_read(layout, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 100)
    source = sources.gather(_write(tmp_path, LAYOUTS[layout]))
    (name,) = sources.find(source, "a.jpg")
    with pytest.raises(sources.MemberError, match="360 bytes"):
        source.read(name)
    assert source.read(name, limit=360) == FILES["Image/a.jpg"]


def test_a_damaged_member_does_not_affect_others(tmp_path: pathlib.Path) -> None:
    data = bytearray(_zip({"a.jpg": os.urandom(300), "b.jpg": b"whole"}, zipfile.ZIP_STORED))
    data[60] ^= 255
    source = sources.gather(_write(tmp_path, {"a.zip": bytes(data)}))
    with pytest.raises(sources.MemberError, match="damaged in the archive"):
        source.read("a/a.jpg")
    assert source.read("a/b.jpg") == b"whole"


def test_the_fingerprint_changes_with_the_files(tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "copy", FILES)
    first = sources.fingerprint(root)
    assert sources.fingerprint(root) == first
    (root / "Image/b.jpg").write_bytes(b"c")
    os.utime(root / "Image/b.jpg", ns=(1, 1))
    assert sources.fingerprint(root) != first
    assert sources.fingerprint(tmp_path / "gone") == ""
