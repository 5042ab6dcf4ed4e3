"""RAF-DB in its original layout and in class folders: labels, crops, attributes, bad copies."""

from __future__ import annotations

import collections
import pathlib
import shutil
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from fer_jax import labels
from fer_jax.errors import UserError
from fer_jax.faces.decode import decode
from tests.tfds_builders import damage, small_kdef, small_sets
from tfds_builders import prepare as build
from tfds_builders.raf_db import folders, names
from tfds_builders.stand_in_mark import is_stand_in
from tfds_builders.stand_ins import raf_db

EACH = {"train": 4, "test": 2}  # of a class
LISTED = [
    (f"{split}_{number:0{5 - (split == 'test')}d}", label)
    for split, each in EACH.items()
    for number, label in enumerate(labels.RAF_DB * each, start=1)
]
CODES = {label: code for code, label in names.BASIC.codes.items()}
ATTRIBUTES = "10.5\t20.25\n30\t20\n20\t30\n14\t40\n26\t40\n{}\n1\n2\n"
BARE = "train_00003"
LIST = "basic/EmoLabel/list_patition_label.txt"
ALIGNED = "basic/Image/aligned"


def _crop(one: str) -> bytes:
    return small_kdef.draw(f"{one} aligned", 36)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The original layout with synthetic images; one attribute file is missing. Read-only."""
    root = tmp_path_factory.mktemp("raf_db")
    basic = root / "basic"
    for folder in ("EmoLabel", "Image/aligned", "Image/original", "Annotation/manual"):
        (basic / folder).mkdir(parents=True)
    lines = [f"{one}.jpg {CODES[label]}" for one, label in LISTED]
    (basic / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")
    for number, (one, _) in enumerate(LISTED):
        (basic / "Image" / "aligned" / f"{one}_aligned.jpg").write_bytes(_crop(one))
        (basic / "Image" / "original" / f"{one}.jpg").write_bytes(small_kdef.draw(one))
        if one != BARE:
            text = ATTRIBUTES.format(number % 3)
            (basic / "Annotation" / "manual" / f"{one}_manu_attri.txt").write_text(text)
    return root


@pytest.fixture(scope="module")
def data(tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("raf_db_data")
    build.prepare("raf_db", None, str(root), str(tree))
    return root


def _as_sent(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return tree


def _inner(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Without basic/, with the other list name, without a suffix, in another case."""
    shutil.copytree(tree / "basic", out, dirs_exist_ok=True)
    (out / "EmoLabel" / "list_patition_label.txt").rename(
        out / "EmoLabel" / "list_partition_label.txt"
    )
    for file in (out / "Image" / "aligned").iterdir():
        file.rename(file.with_name(file.name.replace("_aligned.jpg", ".JPG")))
    return out


def _crops_zipped(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    shutil.copytree(tree, out, dirs_exist_ok=True)
    images, notes = out / "basic" / "Image", out / "basic" / "Annotation"
    with zipfile.ZipFile(images / "aligned.zip", "w") as archive:
        for file in sorted((images / "aligned").iterdir()):
            archive.write(file, f"aligned/{file.name}")
    small_kdef.pack(notes / "manual", notes / "manual.zip")
    shutil.rmtree(images / "aligned")
    shutil.rmtree(notes / "manual")
    return out


def _zips_in_a_zip(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    inside = _crops_zipped(tree, out / "unpacked")
    target = small_kdef.pack(inside, out / "RAF-DB.zip")
    shutil.rmtree(inside)
    return target.parent


def _twice(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Unpacked beside its archive, with the compound part, whose labels are pairs."""
    shutil.copytree(tree, out, dirs_exist_ok=True)
    small_kdef.pack(tree, out / "basic.zip")
    compound = out / "compound" / "EmoLabel"
    compound.mkdir(parents=True)
    (compound / "list_patition_label.txt").write_text("train_0001.jpg 11\n")
    (out / "compound" / "train_00001_aligned.jpg").write_bytes(b"of another part")
    return out


@pytest.mark.parametrize("layout", [_as_sent, _inner, _crops_zipped, _zips_in_a_zip, _twice])
def test_all_layouts_give_the_same_records(
    layout: Callable[[pathlib.Path, pathlib.Path], pathlib.Path],
    tree: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "copy").mkdir()
    manual_dir = layout(tree, tmp_path / "copy")
    before = sorted((path, path.stat().st_mtime_ns) for path in manual_dir.rglob("*"))
    opened = build.get("raf_db", None, str(tmp_path / "data")).open(manual_dir)
    assert [(one.id, one.label) for one in opened.records] == LISTED
    assert opened.drops == []
    assert [one.extras["gender"] for one in opened.records[:4]] == [
        "male",
        "female",
        names.UNKNOWN,
        "male",
    ]
    last = opened.records[-1]
    assert opened.source.read(last.file) == _crop(last.id)
    assert sorted((path, path.stat().st_mtime_ns) for path in manual_dir.rglob("*")) == before


PAIRS = [
    (f"{split}_{number:04d}", label)
    for split, each in {"train": 3, "test": 1}.items()
    for number, label in enumerate(labels.RAF_DB_COMPOUND * each, start=1)
]


@pytest.fixture(scope="module")
def both(tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The compound part beside the basic one. Read-only."""
    root = tmp_path_factory.mktemp("both")
    shutil.copytree(tree, root, dirs_exist_ok=True)
    for folder in ("EmoLabel", "Image/aligned"):
        (root / "compound" / folder).mkdir(parents=True)
    codes = {label: code for code, label in names.COMPOUND.codes.items()}
    lines = [f"{one}.jpg {codes[label]}" for one, label in PAIRS]
    (root / "compound" / "EmoLabel" / names.LABEL_LIST).write_text("\n".join(lines) + "\n")
    for one, _ in PAIRS:
        (root / "compound/Image/aligned" / f"{one}_aligned.jpg").write_bytes(_crop(f"{one} pair"))
    return root


def test_the_compound_part_is_a_variant(both: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepared = build.prepare("raf_db", "compound", str(tmp_path), str(both))
    assert prepared.label_names == labels.RAF_DB_COMPOUND
    tested = [(one.id, one.label) for one in (prepared.entries[row] for row in
              prepared.splits["test"])]  # fmt: skip
    assert tested == [pair for pair in PAIRS if pair[0].startswith("test")]
    assert prepared.record(0)["image"] == _crop("train_0001 pair")
    basic = build.get("raf_db", None, str(tmp_path)).open(both)
    assert [(one.id, one.label) for one in basic.records] == LISTED


@pytest.mark.parametrize("folder", ["basic", "compound"])
def test_a_copy_without_a_folder_compound_is_refused(
    both: pathlib.Path, tmp_path: pathlib.Path, folder: str
) -> None:
    with pytest.raises(UserError, match=r"(?s)compound/EmoLabel.*name the folder that contains"):
        build.get("raf_db", "compound", str(tmp_path)).open(both / folder)


def test_shipped_crops_are_stored_byte_for_byte(data: pathlib.Path) -> None:
    prepared = build.prepare("raf_db", None, str(data))
    assert prepared.label_names == labels.RAF_DB
    assert prepared.metadata["group"] == ""
    assert {split: len(rows) for split, rows in prepared.splits.items()} == {
        "train": 21,
        "validation": 7,
        "test": 14,
    }
    tested = [prepared.entries[row].id for row in prepared.splits["test"]]
    assert tested == [one for one, _ in LISTED if one.startswith("test")]
    for row in (0, len(LISTED) - 1):
        record = prepared.record(row)
        one, label = LISTED[row]
        assert record["image"] == _crop(one)
        assert labels.RAF_DB[record["label"]] == label
        assert record["face_source"] == b"shipped"
        assert record["subject"] == b""
        assert np.isnan(record["landmarks"]).all()
    assert names.RACES[record["race"]] == "African-American"
    assert names.AGES[record["age"]] == "20-39"
    bare = prepared.record([one.id for one in prepared.entries].index(BARE))
    assert [bare[name] for name in ("gender", "race", "age")] == [
        3,
        3,
        5,
    ]  # unknown
    assert prepared.metadata["without_attributes"] == 1


def test_paper_protocol_is_the_official_one(data: pathlib.Path) -> None:
    official, paper = (
        build.prepare("raf_db", None, str(data), protocol=name) for name in ("official", "paper")
    )
    assert official.metadata["digest"] == paper.metadata["digest"]


def _whole(counts: dict[str, dict[str, int]]) -> small_sets.NamesOnly:
    lines, files = [], []
    for split, of_class in counts.items():
        flat = [label for label, count in of_class.items() for _ in range(count)]
        for number, label in enumerate(flat, start=1):
            one = f"{split}_{number:0{5 - (split == 'test')}d}"
            lines.append(f"{one}.jpg {CODES[label]}")
            files.append(f"basic/Image/aligned/{one}_aligned.jpg")
    text = "\r\n".join(lines).encode()
    return small_sets.NamesOnly(tuple(files), {"basic/EmoLabel/list_patition_label.txt": text})


def test_protocols_on_a_complete_copy(tmp_path: pathlib.Path) -> None:
    builder = build.get("raf_db", None, str(tmp_path))
    source = _whole(names.COUNTS)
    records, drops = builder.index(source)
    assert drops == []
    assert collections.Counter(one.split for one in records) == builder.EXPECTED
    assert builder.EXPECTED == {"train": 12_271, "test": 3_068}
    counted = collections.Counter((one.split, one.label) for one in records)
    assert [counted["train", label] for label in builder.LABEL_NAMES] == [
        1290, 281, 717, 4772, 1982, 705, 2524,
    ]  # fmt: skip
    split_of = small_sets.assigned(builder, source, "paper")
    assert all((split == "test") == one.startswith("test") for one, split in split_of.items())
    of_test = collections.Counter(one.label for one in records if split_of[one.id] == "test")
    assert [of_test[label] for label in builder.LABEL_NAMES] == [329, 74, 160, 1185, 478, 162, 680]
    validation = collections.Counter(
        one.label for one in records if split_of[one.id] == "validation"
    )
    assert [validation[label] for label in builder.LABEL_NAMES] == [129, 28, 72, 477, 198, 70, 252]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ATTRIBUTES.format(2), ("unsure", "African-American", "20-39")),
        (ATTRIBUTES.format(9), (names.UNKNOWN, "African-American", "20-39")),
        (ATTRIBUTES.format(0).replace("\n", "\r\n\r\n"), ("male", "African-American", "20-39")),
        ("1\t2\n3\t4\n0\n1\n2\n", None),
        (ATTRIBUTES.format(0).replace("30", "nan"), None),
        (ATTRIBUTES.format(""), None),
        ("", None),
    ],
)
def test_parse_attributes(text: str, expected: tuple[str, str, str] | None) -> None:
    about = names.parse_attributes(text)
    if expected is None:
        assert about is None
    else:
        assert about is not None
        assert (about.gender, about.race, about.age) == expected
        assert about.landmarks is not None
        np.testing.assert_allclose(about.landmarks[:2], [[10.5, 20.25], [30, 20]])


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The smallest stand-in, with two people."""
    root = tmp_path_factory.mktemp("raf_db_stand_in")
    assert sum(raf_db.write(root, 0.002)) == raf_db.count_images(0.002)
    return root


def test_originals_are_aligned_by_landmarks(rendered: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepared = build.prepare("raf_db", "face112", str(tmp_path), str(rendered))
    assert prepared.metadata["stand_in"]
    found = collections.Counter(one.face for one in prepared.entries)
    assert found["aligned"] == len(prepared.entries) - sum(found[one] for one in FALLBACKS)
    assert found["aligned"] > 0.9 * len(prepared.entries)
    row = next(row for row, one in enumerate(prepared.entries) if one.face == "aligned")
    record = prepared.record(row)
    assert decode(record["image"]).shape == (112, 112, 3)
    arcface = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
    np.testing.assert_allclose(record["landmarks"] * 112, arcface, atol=12)
    bare = [one.face for one in prepared.entries if one.id == "train_00002"]  # no attribute file
    assert bare[0] in FALLBACKS


FALLBACKS = ("haar", "profile", "whole")


def test_stand_in_files_and_traps(rendered: pathlib.Path) -> None:
    basic = rendered / "basic"
    assert (basic / "EmoLabel" / "list_patition_label.txt").is_file()
    assert not (basic / "Image" / "aligned").exists()
    with zipfile.ZipFile(basic / "Image" / "aligned.zip") as archive:
        data = archive.read("aligned/train_00001_aligned.jpg")
    assert decode(data).shape == (100, 100, 3)
    assert is_stand_in(data)
    genders = {
        one.extras["gender"]
        for one in build.get("raf_db", None, str(rendered / "none")).open(rendered).records
    }
    assert {"unsure", names.UNKNOWN} < genders
    before = sorted((path, path.stat().st_mtime_ns) for path in basic.rglob("*.*g"))
    assert sum(raf_db.write(rendered, 0.002)) == raf_db.count_images(0.002)
    assert sorted((path, path.stat().st_mtime_ns) for path in basic.rglob("*.*g")) == before


def test_full_scale_has_the_published_counts() -> None:
    assert raf_db.counts(1.0) == names.COUNTS
    assert raf_db.count_images(1.0) == 15_339
    listed = dict(raf_db.listing(1.0))
    assert len(listed) == 15_339
    assert {"train_00001", "train_12271", "test_0001", "test_3068"} <= set(listed)


def _sorted_into(out: pathlib.Path, order: tuple[str, ...], first: int) -> pathlib.Path:
    for one, label in LISTED:
        split, _, number = one.partition("_")
        folder = out / "DATASET" / split / str(order.index(label) + first)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}_{number}_aligned.jpg").write_bytes(_crop(one))
    return out


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("variant", folders.ORDERS)
def test_numbered_folders_are_read_in_the_chosen_order(
    variant: str, first: int, tmp_path: pathlib.Path
) -> None:
    copy = _sorted_into(tmp_path / "copy", folders.ORDERS[variant], first)
    (copy / "DATASET" / "train" / str(first) / "._train_00001_aligned.jpg").write_bytes(b"\0\5\26")
    opened = build.get("raf_db", variant, str(tmp_path / "data")).open(copy)
    assert [(one.id, one.label) for one in opened.records] == LISTED
    assert {one.extras["gender"] for one in opened.records} == {names.UNKNOWN}


@pytest.mark.parametrize("first", [0, 1])
def test_numbered_folders_need_a_chosen_order(first: int, tmp_path: pathlib.Path) -> None:
    copy = _sorted_into(tmp_path / "copy", labels.RAF_DB, first)
    message = small_sets.refused("raf_db", copy, tmp_path / "data")
    assert f"--config folder_raf        {first} surprise, {first + 1} fear" in message
    assert f"--config folder_affectnet  {first} neutral, {first + 1} happiness" in message
    assert f"{first}: 4, {first + 1}: 4" in message
    assert "happiness 4,772" in message


def test_named_folders_need_no_order(tmp_path: pathlib.Path) -> None:
    copy = _sorted_into(tmp_path / "copy", labels.RAF_DB, 1)
    words = ("Surprise", "fear", "disgust", "happy", "sad", "Angry", "neutral")
    for split in EACH:
        for number, word in enumerate(words, start=1):
            (copy / "DATASET" / split / str(number)).rename(copy / "DATASET" / split / word)
    opened = build.get("raf_db", None, str(tmp_path / "data")).open(copy)
    assert [(one.id, one.label) for one in opened.records] == LISTED


def test_complete_copy_contradicts_the_wrong_order(tmp_path: pathlib.Path) -> None:
    files = [
        f"DATASET/{split}/{CODES[label]}/{split}_{label}{number:05d}_aligned.jpg"
        for split, of_class in names.COUNTS.items()
        for label, count in of_class.items()
        for number in range(count)
    ]
    source = small_sets.NamesOnly(tuple(files))
    right = build.get("raf_db", "folder_raf", str(tmp_path))
    assert len(right.index(source)[0]) == 15_339
    wrong = build.get("raf_db", "folder_affectnet", str(tmp_path))
    with pytest.raises(small_sets.errors.UserError, match="use --config folder_raf"):
        wrong.index(source)


def _with_commas(data: bytes) -> bytes:
    return b"image,label\n" + data.replace(b" ", b",")


def _without_21_lines(data: bytes) -> bytes:
    lines = data.splitlines()
    return b"\n".join([*lines[:14], *lines[-7:]])


def _without_a_class(tree: pathlib.Path) -> pathlib.Path:
    for one, label in LISTED:
        if label == labels.FEAR and one.startswith("train"):
            (tree / "basic" / "Image" / "aligned" / f"{one}_aligned.jpg").unlink()
    return tree


def _many_truncated(tree: pathlib.Path) -> pathlib.Path:
    for file in sorted((tree / "basic" / "Image" / "aligned").iterdir())[:25]:
        small_sets.truncate(file)
    return tree


def _half_an_inner_archive(tree: pathlib.Path) -> pathlib.Path:
    copy = _crops_zipped(tree, tree.parent / "zipped")
    target = copy / "basic" / "Image" / "aligned.zip"
    target.write_bytes(target.read_bytes()[:5000])
    return copy


def _zip_slip(tree: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(tree / "basic" / "Image" / "aligned")
    small_sets.escape(tree / "basic" / "Image" / "aligned.zip", "../train_00001_aligned.jpg")
    return tree


def _folders(tree: pathlib.Path) -> pathlib.Path:
    return _sorted_into(tree.parent / "folders", labels.RAF_DB, 1)


def _unknown_folder(tree: pathlib.Path) -> pathlib.Path:
    return damage.added("DATASET/train/8/train_1.jpg")(_folders(tree))


def _empty_folder(tree: pathlib.Path) -> pathlib.Path:
    copy = _folders(tree)
    shutil.rmtree(copy / "DATASET" / "test" / "2")
    return copy


@pytest.mark.parametrize(
    ("bad", "variant", "message"),
    [
        (damage.rewritten(LIST, _with_commas), None, "in line 1: 'image,label'"),
        (damage.replaced(LIST, "_00004.jpg 4", "_00004.jpg 8"), None, "4: 'train_00004.jpg 8'"),
        (damage.rewritten(LIST, lambda data: data + b"IMG_0001.jpg 4"), None, "'IMG_0001.jpg 4'"),
        (damage.rewritten(LIST, lambda data: data + b"train_00001.jpg 4"), None, "a second label"),
        (damage.added("old/list_patition_label.txt", b"train_00001.jpg 1"), None, "2 that differ"),
        (damage.rewritten(LIST, _without_21_lines), None, "21 more"),
        (damage.removed(ALIGNED), None, "shipped crops beside the label list"),
        (damage.removed(f"{ALIGNED}/test_*"), None, "(split test), found none of surprise"),
        (_without_a_class, None, "(split train), found none of fear"),
        (_many_truncated, None, "more than 20 that cannot be read"),
        (damage.wrong_archive, None, "EmoLabel/list_patition_label.txt"),
        (_half_an_inner_archive, None, "cannot be read"),
        (_zip_slip, None, "points outside"),
        (_unknown_folder, "folder_raf", "and 3 more"),
        (_empty_folder, "folder_raf", "(split test), found none of fear"),
        (_folders, "face112", "original images"),
        (damage.nowhere, None, "no such folder"),
    ],
)
def test_bad_copy_is_a_user_error(
    bad: damage.Damage,
    variant: str | None,
    message: str,
    tree: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    small_sets.check_refusal("raf_db", bad, message, tree, tmp_path, variant)


def test_few_bad_images_are_reported(
    tree: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tree, tmp_path / "damaged")
    crops = tmp_path / "damaged" / "basic" / "Image" / "aligned"
    small_sets.truncate(crops / "train_00001_aligned.jpg")
    (crops / "train_00002_aligned.jpg").write_text("not an image")
    small_sets.claim_huge(crops / "train_00004_aligned.jpg")
    (crops / "train_00005_aligned.jpg").unlink()
    (crops / "train_99999_aligned.jpg").write_bytes(_crop("more"))
    prepared = build.prepare("raf_db", None, str(tmp_path / "data"), str(tmp_path / "damaged"))
    assert prepared.metadata["dropped"] == {
        "not in the label list": ["train_99999"],
        "unreadable": ["train_00001", "train_00002", "train_00004"],
    }
    assert prepared.metadata["missing"] == ["train_00005"]
    assert len(prepared.entries) == len(LISTED) - 4
    assert "1 listed but missing: train_00005" in capsys.readouterr().out
