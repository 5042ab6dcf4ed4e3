"""KDEF: every layout of a copy, errors of known copies, both protocols, damaged copies."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import shutil
import struct
import zipfile
from collections.abc import Callable
from typing import IO

import numpy as np
import pytest

from fer_jax import errors, labels
from fer_jax.faces.decode import decode
from tests import commands
from tests.tfds_builders import small_kdef as small
from tfds_builders import prepare as build
from tfds_builders import prepared as prepared_sets
from tfds_builders import sources
from tfds_builders.kdef import names

Copy = Callable[[], pathlib.Path]


def _prepare(tmp_path: pathlib.Path, manual_dir: pathlib.Path, protocol: str | None = None):
    data = str(tmp_path / "data")
    return build.prepare("kdef", None, data, str(manual_dir), protocol=protocol)


def _unpacked(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return tree


def _deeper(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return tree / "KDEF_and_AKDEF" / "KDEF"


def _nested(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    shutil.copytree(tree, out / "KDEF_and_AKDEF" / "copy of disk 1")
    return out


def _lower_case(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    for file in tree.rglob("*.JPG"):
        target = out / str(file.relative_to(tree)).lower()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target.with_suffix(".jpeg"))
    return out


def _zip_in_folder(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    out.mkdir()
    small.pack(tree, out / "KDEF_and_AKDEF.zip")
    return out


def _zip_itself(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    out.mkdir()
    return small.pack(tree, out / "download (1).zip")


def _mac_zip(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    folder = _zip_in_folder(tree, out)
    with zipfile.ZipFile(folder / "KDEF_and_AKDEF.zip", "a") as archive:
        archive.writestr("__MACOSX/KDEF_and_AKDEF/KDEF/AF01/._AF01AFS.JPG", b"\0\5\26\7")
    return folder


LAYOUTS = [_unpacked, _deeper, _nested, _lower_case, _zip_in_folder, _zip_itself, _mac_zip]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_records(
    layout: Callable[[pathlib.Path, pathlib.Path], pathlib.Path],
    kdef_tree: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    manual_dir = layout(kdef_tree, tmp_path / "copy")
    before = sorted((path, path.stat().st_mtime_ns) for path in manual_dir.rglob("*"))
    builder = build.get("kdef", None, str(tmp_path / "data"))
    records, drops = builder.index(builder.open_source(manual_dir))
    assert drops == []
    assert len(records) == small.IMAGES
    assert {one.subject for one in records} == set(small.PEOPLE)
    opened, other = builder.open(manual_dir), builder.open(kdef_tree)
    assert builder.source_digest(opened) == builder.source_digest(other)
    source = builder.open_source(manual_dir)
    chosen = next(one for one in records if one.id == "AM31SUHR")
    assert source.read(chosen.file) == small.draw("AM31SUHR")
    assert sorted((path, path.stat().st_mtime_ns) for path in manual_dir.rglob("*")) == before


def test_preparing_from_a_zip(kdef_tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepared = _prepare(tmp_path, _zip_in_folder(kdef_tree, tmp_path / "copy"))
    metadata = prepared.metadata
    assert metadata["found"] == small.IMAGES
    assert metadata["dropped"] == {"black": list(small.BLACK)}
    assert metadata["misnamed"] == names.MISNAMED
    assert metadata["label_names"] == list(labels.SEVEN)
    assert metadata["leaks"] == 0
    assert not metadata["stand_in"]
    assert metadata["pictures"] == "face"
    assert metadata["mask"] == "none"

    assert list(prepared.splits) == ["train", "validation", "test"]
    ids = [one.id for one in prepared.entries]
    assert ids == sorted(set(ids))
    assert len(ids) == small.IMAGES - len(small.BLACK)
    rows = np.concatenate(list(prepared.splits.values()))
    assert sorted(rows) == list(range(len(ids)))
    people = [{prepared.entries[row].subject for row in some} for some in prepared.splits.values()]
    assert [len(some) for some in people] == [2, 2, 2]
    assert len(set.union(*people)) == 6
    for some in people:  # stratified: a woman and a man each
        assert {one[:1] for one in some} == {"F", "M"}


def test_a_record_has_the_labels_of_its_file_name(kdef_data: pathlib.Path) -> None:
    prepared = build.prepare("kdef", None, str(kdef_data))
    row = [one.id for one in prepared.entries].index("BM25SAHL")
    record = dict(prepared.record(row))
    record["image"] = decode(record["image"])
    assert labels.SEVEN[record["label"]] == labels.SADNESS
    assert record["subject"] == b"M25"
    assert record["yaw"] == np.float32(-45.0)
    assert record["face_source"] == b"view"  # a drawn image has no face to find
    width, height = 48, 64
    box = names.VIEWS["HL"][1]
    expected = np.array(box) * (width, height, width, height)
    np.testing.assert_allclose(record["face_box"], expected, atol=1.0)
    side = record["image"].shape[0]
    assert record["image"].shape == (side, side, 3)
    np.testing.assert_allclose(side, max(record["face_box"][2:]) * 1.2, atol=1.0)


def test_the_paper_protocol_reports_its_leaks(kdef_data: pathlib.Path) -> None:
    paper = build.prepare("kdef", None, str(kdef_data), protocol="paper")
    assert paper.label_names == labels.KDEF_PAPER
    assert paper.metadata["leaks"] == 6
    assert "same people" in paper.metadata["notes"][0]
    assert paper.metadata["mask"] == "ellipse"
    assert paper.metadata["left_out"] == {"neutral": small.IMAGES // 7 - 1}  # one is black
    row = paper.splits["test"][0]
    assert labels.KDEF_PAPER[paper.labels("test")[0]] == paper.entries[row].label


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("KDEF_and_AKDEF/KDEF/AF01/AF01AFS.JPG", True),
        ("af01afs.jpeg", True),
        ("KDEF/AF01/holiday.jpg", True),  # so that `index` refuses it
        ("KDEF_and_AKDEF/AKDEF/AF01AFS.JPG", False),
        ("KDEF/AF01/._AF01AFS.JPG", False),
        ("KDEF/AF01/Thumbs.db", False),
        ("holiday.jpg", False),
    ],
)
def test_which_files_are_images_of_the_set(file: str, expected: bool) -> None:
    assert names.is_image(file) is expected


@dataclasses.dataclass(frozen=True)
class _NamesOnly:
    """A complete KDEF, file names only."""

    path: pathlib.Path = pathlib.Path("KDEF")

    def sizes(self) -> dict[str, int]:
        every = [
            f"KDEF/{session}{gender}{number:02d}/{session}{gender}{number:02d}{expression}{view}.JPG"
            for session in names.SESSIONS
            for gender in names.GENDERS
            for number in range(1, names.PEOPLE + 1)
            for expression in names.EXPRESSIONS
            for view in names.VIEWS
        ]
        return dict.fromkeys(every, 1)

    def read(self, name: str, limit: int | None = None) -> bytes:
        raise sources.MemberError(name)

    def stream(self, name: str) -> IO[bytes]:
        raise sources.MemberError(name)


def _assigned(builder, name: str) -> dict[str, str]:
    records, _ = builder.index(_NamesOnly())
    assert len(records) == builder.EXPECTED == 4_900
    protocol = builder.protocol(name)
    rows = [one.row for one in records if one.id not in names.BLACK]
    assigned = prepared_sets.assign(rows, protocol, builder.label_names, 0, "kdef")
    assert prepared_sets.assign(rows[::-1], protocol, builder.label_names, 0, "kdef") == assigned
    return dict(assigned)


def test_the_paper_protocol_on_a_complete_kdef(tmp_path: pathlib.Path) -> None:
    assigned = _assigned(build.get("kdef", None, str(tmp_path)), "paper")
    # 4,200 images of six classes; eight of the ten black ones are among them.
    assert collections.Counter(assigned.values()) == {
        "test": 800,
        "validation": 339,
        "train": 3_053,
    }
    # Golden: may change with the builder's VERSION only.
    test = sorted(one for one, split in assigned.items() if split == "test")
    assert test[:3] == ["AF01AFHL", "AF01ANS", "AF01DIS"]


def test_the_subject_protocol_on_a_complete_kdef(tmp_path: pathlib.Path) -> None:
    people: dict[str, set[str]] = collections.defaultdict(set)
    for one, split in _assigned(build.get("kdef", None, str(tmp_path)), "subject").items():
        people[split].add(one[1:4])
    assert {split: len(some) for split, some in people.items()} == {
        "train": 50,
        "validation": 10,
        "test": 10,
    }
    assert sum(map(len, people.values())) == 70
    for some in people.values():
        assert sum(one[0] == "F" for one in some) * 2 == len(some)
    # Golden: may change with the builder's VERSION only.
    assert sorted(people["test"])[:3] == ["F03", "F09", "F10"]


def _rename_an_image(sessions: pathlib.Path) -> pathlib.Path:
    (sessions / "AF01" / "AF01NES.JPG").rename(sessions / "AF01" / "IMG_2041.JPG")
    return sessions


def _two_that_differ(sessions: pathlib.Path) -> pathlib.Path:
    (sessions / "AF01" / "af01nes.jpg").write_bytes(small.draw("other", 96))
    return sessions


def _one_person(sessions: pathlib.Path) -> pathlib.Path:
    return sessions / "AF01"


def _many_truncated(sessions: pathlib.Path) -> pathlib.Path:
    for file in sorted((sessions / "AF01").iterdir())[:25]:
        file.write_bytes(file.read_bytes()[:-40])
    return sessions


def _empty(sessions: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(sessions)
    sessions.mkdir()
    return sessions


def _missing(sessions: pathlib.Path) -> pathlib.Path:
    return sessions / "nowhere"


def _wrong_archive(sessions: pathlib.Path) -> pathlib.Path:
    target = sessions / "KDEF.zip"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("RaFD/Rafd090_01_Caucasian_female_angry_frontal.jpg", b"")
    return target


def _half_an_archive(sessions: pathlib.Path) -> pathlib.Path:
    target = small.pack(sessions, sessions.parent / "KDEF.zip")
    target.write_bytes(target.read_bytes()[:5000])
    return target


def _zip_slip(sessions: pathlib.Path) -> pathlib.Path:
    target = sessions / "KDEF.zip"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("KDEF/AF01/../../../AF01AFS.JPG", small.draw("AF01AFS"))
    return target


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_rename_an_image, "IMG_2041.JPG"),
        (_two_that_differ, "two that differ"),
        (_one_person, "at least 3 people"),
        (_many_truncated, "more than 20 that cannot be read"),
        (_empty, "an empty folder"),
        (_missing, "no such folder"),
        (_wrong_archive, "without any of them"),
        (_half_an_archive, "cannot be read"),
        (_zip_slip, "points outside"),
    ],
)
def test_a_damaged_copy_is_refused_and_nothing_is_written(
    damage: Callable[[pathlib.Path], pathlib.Path],
    says: str,
    kdef_copy: Copy,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manual_dir = damage(kdef_copy())
    arguments = ["kdef", "--manual_dir", str(manual_dir), "--data_dir", str(tmp_path / "data")]
    with pytest.raises(SystemExit) as stopped:
        commands.run("prepare", *arguments)
    assert stopped.value.code == 2
    message = capsys.readouterr().err.split("error: ")[1]
    assert says in message
    assert "expected" in message
    assert not any((tmp_path / "data").rglob("*.array_record*"))


def _bomb(file: pathlib.Path) -> None:
    """A JPEG whose header claims 60,000 x 60,000 pixels."""
    data = bytearray(file.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    file.write_bytes(bytes(data))


def test_a_few_unreadable_images_are_dropped_and_listed(
    kdef_copy: Copy, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions = kdef_copy()
    truncated = sessions / "AF01" / "AF01HAS.JPG"
    truncated.write_bytes(truncated.read_bytes()[:-40])
    (sessions / "AF01" / "AF01NES.JPG").write_text("not an image")
    (sessions / "AF01" / "AF01SAS.JPG").write_bytes(b"")
    _bomb(sessions / "AF01" / "AF01SUS.JPG")
    prepared = _prepare(tmp_path, sessions)
    unreadable = ["AF01HAS", "AF01NES", "AF01SAS", "AF01SUS"]
    assert prepared.metadata["dropped"]["unreadable"] == unreadable
    table = (pathlib.Path(prepared.builder.data_dir) / "dropped.csv").read_text()
    for detail in ("truncated", "not a JPEG", "empty", "60000 x 60000 pixels"):
        assert detail in table
    assert "4 unreadable: AF01HAS, AF01NES, AF01SAS, AF01SUS" in capsys.readouterr().out


def test_a_second_copy_of_an_image_is_dropped(kdef_copy: Copy, tmp_path: pathlib.Path) -> None:
    sessions = kdef_copy()
    shutil.copytree(sessions / "AF01", sessions / "backup" / "AF01")
    metadata = _prepare(tmp_path, sessions).metadata
    assert metadata["found"] == small.IMAGES + 35
    assert len(metadata["dropped"]["a second copy of the same image"]) == 35


def test_an_oversized_member_is_not_read(
    kdef_tree: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 100)
    for source in (
        sources.FolderSource(kdef_tree),
        sources.ZipSource(small.pack(kdef_tree, tmp_path / "kdef.zip")),
    ):
        with pytest.raises(sources.MemberError, match="bytes"):
            source.read("KDEF_and_AKDEF/KDEF/AF01/AF01AFS.JPG")


def test_an_encrypted_archive_is_refused(kdef_tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    packed = small.pack(kdef_tree, tmp_path / "kdef.zip")
    data = bytearray(packed.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1  # the flag, in the central directory
    packed.write_bytes(bytes(data))
    with pytest.raises(errors.UserError, match="encrypted"):
        sources.ZipSource(packed).sizes()
