"""RaFD from every layout: traps, two protocols, stand-in, bad copies."""

from __future__ import annotations

import collections
import pathlib
import shutil
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from fer_jax import labels
from fer_jax.faces.decode import decode
from tests.tfds_builders import damage, small_kdef, small_sets
from tfds_builders import prepare as build
from tfds_builders.rafd import names
from tfds_builders.stand_in_mark import is_stand_in
from tfds_builders.stand_ins import rafd

KINDS = ("Caucasian_female", "Caucasian_male", "Kid_female", "Moroccan_male")
PEOPLE = tuple((number, KINDS[number % 4]) for number in range(1, 13))
VIEWS = tuple(names.VIEWS)


def _name(number: int, kind: str, expression: str) -> str:
    return f"Rafd{VIEWS[number % 5]}_{number:02d}_{kind}_{expression}_frontal"


NAMES = tuple(_name(*one, expression) for one in PEOPLE for expression in names.EXPRESSIONS)
BORED = NAMES[0].replace("angry", "bored")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Synthetic images of twelve people, one view each; read-only."""
    root = tmp_path_factory.mktemp("rafd")
    for one in NAMES:
        (root / f"{one}.jpg").write_bytes(small_kdef.draw(one))
    return root


@pytest.fixture(scope="module")
def data(tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("rafd_data")
    build.prepare("rafd", None, str(root), str(tree))
    return root


def _flat(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return tree


def _zip(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    small_kdef.pack(tree, out / "RafDDownload-0123ABCD.zip")
    return out


def _any_zip(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return small_kdef.pack(tree, out / "download (1).zip")


def _two_zips(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    files = sorted(tree.iterdir())
    for number, part in enumerate((files[::2], files[1::2])):
        with zipfile.ZipFile(out / f"RafDDownload-{number}.zip", "w") as archive:
            for file in part:
                archive.write(file, file.name)
    return out


def _tree_and_zip(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Only one of two archives is unpacked."""
    files = sorted(tree.iterdir())
    (out / "RafDDownload-0").mkdir()
    for file in files[::2]:
        shutil.copy(file, out / "RafDDownload-0")
    with zipfile.ZipFile(out / "RafDDownload-1.zip", "w") as archive:
        for file in files[1::2]:
            archive.write(file, file.name)
    return out


def _renamed(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    for number, file in enumerate(sorted(tree.iterdir())):
        folder = out / "faces" / f"person {number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        ending = (".JPG", ".jpeg", ".png")[number % 3]
        data = small_sets.png(file.stem) if ending == ".png" else file.read_bytes()
        before = ("", "s1_", "aligned")[number % 3]
        (folder / f"{before}{file.stem.upper()}{ending}").write_bytes(data)
    (out / "faces" / "._Rafd090_01_Caucasian_female_happy_frontal.jpg").write_bytes(b"\0\5\26\7")
    return out


@pytest.mark.parametrize("layout", [_flat, _zip, _any_zip, _two_zips, _tree_and_zip, _renamed])
def test_all_layouts_give_the_same_records(
    layout: Callable[[pathlib.Path, pathlib.Path], pathlib.Path],
    tree: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "copy").mkdir()
    manual_dir = layout(tree, tmp_path / "copy")
    before = sorted((path, path.stat().st_mtime_ns) for path in manual_dir.rglob("*"))
    opened = build.get("rafd", None, str(tmp_path / "data")).open(manual_dir)
    assert [one.id for one in opened.records] == sorted(NAMES)
    assert opened.drops == []
    assert {one.subject for one in opened.records} == {f"{number:02d}" for number, _ in PEOPLE}
    last = opened.records[-1]
    assert decode(opened.source.read(last.file)).shape == (64, 48, 3)
    assert sorted((path, path.stat().st_mtime_ns) for path in manual_dir.rglob("*")) == before


def test_jpeg_is_preferred_to_its_png(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = shutil.copytree(tree, tmp_path / "copy")
    (copy / "converted").mkdir()
    (copy / "converted" / f"{NAMES[0]}.png").write_bytes(small_sets.png(NAMES[0]))
    opened = build.get("rafd", None, str(tmp_path / "data")).open(copy)
    assert len(opened.records) == len(NAMES)
    assert all(one.file.endswith(".jpg") for one in opened.records)
    assert [drop.file for drop in opened.drops] == [f"converted/{NAMES[0]}.png"]


def test_prepare_stores_attributes_from_names(data: pathlib.Path) -> None:
    prepared = build.prepare("rafd", None, str(data))
    assert prepared.label_names == labels.RAFD
    assert prepared.metadata["protocol"] == "subject"
    assert prepared.metadata["leaks"] == 0
    assert prepared.metadata["found"] == 96
    people = [{prepared.entries[row].subject for row in some} for some in prepared.splits.values()]
    assert [len(some) for some in people] == [4, 4, 4]  # one of each kind
    row = [one.id for one in prepared.entries].index("Rafd180_04_Caucasian_female_sad_frontal")
    record = prepared.record(row)
    assert labels.RAFD[record["label"]] == labels.SADNESS
    assert record["subject"] == b"04"
    assert record["yaw"] == 90.0
    assert names.GAZES[record["gaze"]] == "frontal"
    assert names.SEXES[record["sex"]] == "female"
    assert names.KINDS[record["ethnicity"]] == "Caucasian"
    assert record["face_source"] == b"view"
    box = np.array(names.VIEWS["180"][1]) * (48, 64, 48, 64)
    np.testing.assert_allclose(record["face_box"], box, atol=1.0)


def test_paper_protocol_reports_its_leaks(data: pathlib.Path) -> None:
    paper = build.prepare("rafd", None, str(data), protocol="paper")
    assert len(paper.splits["test"]) == 24  # three of the twelve of each class
    assert paper.metadata["leaks"] > 0
    assert "same people" in paper.metadata["notes"][0]


def _whole() -> small_sets.NamesOnly:
    files = [
        rafd._file_name(person, camera, expression, gaze, 1)
        for person in rafd.people(1.0)
        for camera, gaze in rafd._VIEWS
        for expression in names.EXPRESSIONS
    ]
    return small_sets.NamesOnly(tuple(files))


def test_paper_protocol_on_a_complete_copy(tmp_path: pathlib.Path) -> None:
    builder = build.get("rafd", None, str(tmp_path))
    source = _whole()
    assert len(source.names) == builder.EXPECTED == 8_040
    split_of = small_sets.assigned(builder, source, "paper")
    assert collections.Counter(split_of.values()) == {
        "test": 1_608,
        "validation": 643,
        "train": 5_789,
    }
    # Golden: may change with the builder's VERSION only.
    test = sorted(one for one, split in split_of.items() if split == "test")
    assert test[0] == "Rafd000_01_Caucasian_female_fearful_frontal"


def test_subject_protocol_on_a_complete_copy(tmp_path: pathlib.Path) -> None:
    builder = build.get("rafd", None, str(tmp_path))
    split_of = small_sets.assigned(builder, _whole(), "subject")
    people: dict[str, set[str]] = collections.defaultdict(set)
    for one, split in split_of.items():
        people[split].add("_".join(one.split("_")[1:4]))
    sizes = {split: len(some) for split, some in people.items()}
    assert sizes == {"train": 45, "validation": 11, "test": 11}
    assert len(set.union(*people.values())) == 67
    for some in people.values():
        assert {kind for one in some for kind in names.KINDS if kind in one} == set(names.KINDS)


def test_stand_in_has_all_people_and_cameras() -> None:
    people = rafd.people(1.0)
    assert [one.number for one in people] == list(names.NUMBERS)
    assert rafd.count_images(1.0) == 8_040
    each = rafd.views_of(0.01)
    assert each == 1
    views = [view for number in range(12) for view in rafd._views(number, each)]
    assert {camera for camera, _ in views} == set(names.VIEWS)
    assert {gaze for _, gaze in views} == set(names.GAZES)
    assert {rafd._PREFIXED, rafd._AS_PNG, rafd._DUPLICATED} <= {
        one.number for one in rafd.people(0.01)
    }


def test_stand_in_files_and_traps(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    person = next(one for one in rafd.people(0.01) if one.number == rafd._PREFIXED)
    folder = tmp_path / rafd.FOLDER
    assert rafd._write_person(person, [("135", "left")], folder) == 8
    rafd._write_person(person, [("135", "left")], folder)  # already written
    for number, name in ((1, "12_Kid_male"), (rafd._DUPLICATED, f"{rafd._DUPLICATED}_Kid_male")):
        file = folder / f"Rafd090_{name}_happy_frontal.jpg"
        file.write_bytes(small_kdef.draw(str(number)))
    rafd._write_irregular_files(folder)
    opened = build.get("rafd", None, str(tmp_path / "data")).open(tmp_path)
    assert len(opened.records) == 10
    assert sorted(drop.reason for drop in opened.drops) == [
        "a second copy of the same image",
        "not a RaFD file name",
    ]
    happy = next(one for one in opened.records if one.subject == f"{rafd._PREFIXED:02d}" and
                 one.label == labels.HAPPINESS)  # fmt: skip
    assert pathlib.PurePath(happy.file).name.startswith("s1_Rafd135")
    data = opened.source.read(happy.file)
    assert is_stand_in(data)
    assert decode(data).shape == (1024, 681, 3)
    rafd.pack(tmp_path)
    packed = build.get("rafd", None, str(tmp_path / "data")).open(tmp_path)
    assert [one.id for one in packed.records] == [one.id for one in opened.records]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("Rafd090_01_Caucasian_female_angry_frontal.jpg", True),
        ("a/b/crop_rafd045_73_kid_MALE_surprised_left.PNG", True),
        ("Rafd091_01_Caucasian_female_angry_frontal.jpg", False),
        ("Rafd090_01_Caucasian_female_bored_frontal.jpg", False),
        ("Rafd090_01_Martian_female_angry_frontal.jpg", False),
        ("Rafd090_01_Caucasian_female_angry_up.jpg", False),
        ("Rafd090_01_Caucasian_female_angry_frontal (1).jpg", False),
    ],
)
def test_parse_accepts_valid_names_only(file: str, expected: bool) -> None:
    assert names.is_image(file)  # similar to RaFD.s names
    assert (names.parse(file) is not None) is expected


def _few_people(tree: pathlib.Path) -> pathlib.Path:
    for file in tree.glob("*_Kid_*"):
        if "_02_" not in file.name:
            file.unlink()
    return tree


def _many_truncated(tree: pathlib.Path) -> pathlib.Path:
    for file in sorted(tree.iterdir())[:25]:
        small_sets.truncate(file)
    return tree


def _wrong_archive(tree: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(tree)
    tree.mkdir()
    with zipfile.ZipFile(tree / "RaFD.zip", "w") as archive:
        archive.writestr("KDEF/AF01/AF01AFS.JPG", small_kdef.draw("AF01AFS"))
    return tree


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (damage.renamed(f"{NAMES[0]}.jpg", f"{BORED}.jpg"), "found 1 others"),
        (damage.removed("*_contemptuous_*"), "found none of contempt"),
        (damage.added(f"again/{NAMES[0]}.jpg", small_kdef.draw("other", 96)), "two that differ"),
        (damage.added("Rafd000_01_Kid_female_sad_left.jpg"), "one person of number 01"),
        (_few_people, "at least 3 people"),
        (_many_truncated, "more than 20 that cannot be read"),
        (_wrong_archive, "RafDDownload-....zip"),
        (damage.half_an_archive, "cannot be read"),
        (damage.outside, "points outside"),
        (damage.nowhere, "no such folder"),
    ],
)
def test_bad_copy_is_a_user_error(
    bad: damage.Damage, message: str, tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    small_sets.check_refusal("rafd", bad, message, tree, tmp_path)


def test_few_unreadable_images_are_dropped_and_listed(
    tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    copy = shutil.copytree(tree, tmp_path / "damaged")
    first = [copy / f"{one}.jpg" for one in sorted(NAMES)[:3]]
    small_sets.truncate(first[0])
    first[1].write_text("not an image")
    small_sets.claim_huge(first[2])
    prepared = build.prepare("rafd", None, str(tmp_path / "data"), str(copy), protocol="paper")
    assert prepared.metadata["dropped"] == {"unreadable": [one.stem for one in first]}
    assert prepared.metadata["found"] == 96
    assert len(prepared.entries) == 93
