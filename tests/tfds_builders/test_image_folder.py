"""A user's own images: splits, classes, subjects, config names, bad folders."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest

from fer_jax import errors, labels
from tests import commands
from tests.tfds_builders import damage
from tfds_builders import prepare as build
from tfds_builders.encode import encode_jpeg
from tfds_builders.image_folder import tree
from tfds_builders.stand_ins import image_folder as stand_in

EMOTIONS = (labels.NEUTRAL, labels.HAPPINESS, labels.SADNESS, labels.ANGER)
IMAGE = "faces/train/Happy/*.jpg"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return damage.write_stand_in(tmp_path_factory, "image_folder", 0.01)


def _draw(number: int) -> bytes:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)
    return encode_jpeg(np.kron(coarse, np.ones((8, 8, 1), np.uint8)), 90)


def _write(root: pathlib.Path, *folders: str, each: int = 4) -> pathlib.Path:
    for place, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for number in range(each):
            (root / folder / f"{number}.jpg").write_bytes(_draw(100 * place + number))
    return root


def _prepare(tmp_path: pathlib.Path, manual_dir: pathlib.Path, **options):
    return build.prepare("image_folder", None, str(tmp_path / "data"), str(manual_dir), **options)


def test_prepare_with_splits_subjects_and_other_files(
    faces: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = _prepare(tmp_path, faces)
    assert "6 subjects in subjects.csv" in capsys.readouterr().out
    assert prepared.label_names == EMOTIONS
    for split, rows in prepared.splits.items():
        assert {prepared.entries[row].split for row in rows} == {split}
    assert prepared.metadata["leaks"] == 0
    assert prepared.metadata["stand_in"]
    (reason,) = prepared.metadata["dropped"]
    assert prepared.metadata["dropped"][reason] == ["faces/notes.txt",
                                                    "faces/train/Angry/Thumbs.db"]  # fmt: skip
    assert len(prepared.entries) == stand_in.count_images(0.01)


def test_jpeg_is_stored_byte_for_byte(faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for example in damage.read("image_folder", tmp_path, faces):
        file = faces / "faces" / example["id"]
        if file.suffix.lower() == ".jpg":
            assert example["image"].getvalue() == file.read_bytes()


def test_prepare_without_split_folders(faces: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Class folders in the root; each subject of the table is in one split."""
    root = tmp_path / "mine"
    lines = ["file,subject"]
    for file in sorted((faces / "faces").glob("*/*/p*")):
        target = root / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        lines.append(f"{target.relative_to(root)},{file.name[:4]}")
    (root / "subjects.csv").write_text("\n".join(lines) + "\n")
    prepared = _prepare(tmp_path, root)
    assert prepared.metadata["leaks"] == 0
    assert prepared.label_names == EMOTIONS
    people = [{prepared.entries[row].subject for row in rows} for rows in prepared.splits.values()]
    assert sum(map(len, people)) == len(set.union(*people)) == 6
    packed = damage.pack(root, tmp_path / "packed" / "mine.zip")
    whole = damage.open_copy("image_folder", tmp_path, root).records
    for place in (packed, packed.parent):
        found = damage.open_copy("image_folder", tmp_path, place).records
        assert [one.row for one in found] == [one.row for one in whole]


@pytest.mark.parametrize(
    ("splits", "stored"),
    [
        ((), {"train": {"pictures"}, "validation": {"pictures"}, "test": {"pictures"}}),
        (("train", "test"), {"train": {"train"}, "validation": {"train"}, "test": {"test"}}),
        (("Train", "VAL"), {"train": {"train"}, "validation": {"validation"}, "test": {"train"}}),
        (
            ("training", "valid", "testing"),
            {"train": {"train"}, "validation": {"validation"}, "test": {"test"}},
        ),
    ],
)
def test_missing_splits_are_drawn_from_train(splits, stored, tmp_path: pathlib.Path) -> None:
    folders = [f"{split}/{one}" for split in splits or ("",) for one in ("b", "a")]
    root = _write(tmp_path / "mine", *(folder.strip("/") for folder in folders), each=8)
    opened = damage.open_copy("image_folder", tmp_path, root)
    builder = damage.get("image_folder", tmp_path, root)
    assert builder.label_names == ("a", "b")  # not emotions: the folder names
    rows = [one.row for one in opened.records]
    protocol = builder.protocol(None)
    assigned = protocol.assign(rows, 0)
    assert set(assigned) == {row.id for row in rows}
    found = {}
    for row in rows:
        found.setdefault(assigned[row.id], set()).add(row.split)
    assert found == stored
    assert len({(assigned[row.id], row.label) for row in rows}) == 6


def test_two_folders_share_a_data_dir(tmp_path: pathlib.Path) -> None:
    one = _prepare(tmp_path, _write(tmp_path / "one" / "mine", "a", "b", each=6))
    other = _prepare(tmp_path, _write(tmp_path / "other" / "mine", "c", "d", each=6))
    assert one.builder.data_dir != other.builder.data_dir
    assert (one.label_names, other.label_names) == (("a", "b"), ("c", "d"))
    again = _prepare(tmp_path, tmp_path / "one" / "mine")
    assert again.metadata["digest"] == one.metadata["digest"]
    name = one.builder.builder_config.name
    shutil.rmtree(tmp_path / "one")
    gone = build.prepare("image_folder", name, str(tmp_path / "data"))
    assert gone.metadata["digest"] == one.metadata["digest"]
    _write(tmp_path / "one" / "mine", "a", "b", each=6)
    small = _prepare(tmp_path, tmp_path / "one" / "mine", crop={"longest_side": 20})
    assert small.builder.data_dir != one.builder.data_dir
    assert small.label_names == ("a", "b")


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("Angry", "Happy"), {"Happy": "happiness", "Angry": "anger"}),
        (("angry", "smirk"), {"angry": "angry", "smirk": "smirk"}),
        (("0", "1", "10"), {"0": "0", "1": "1", "10": "10"}),
    ],
)
def test_class_names(folders, names, tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "mine", *folders, each=1)
    found = tree.parse(damage.open_copy("image_folder", tmp_path, root).source)
    assert list(found.classes.items()) == list(names.items())


def test_prepare_needs_a_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.UserError, match="expected the folder of your images"):
        build.prepare("image_folder", None, str(tmp_path))


def _one_class(root: pathlib.Path) -> pathlib.Path:
    for split in ("train", "val", "test"):
        for folder in ("Angry", "Neutral", "Sad"):
            shutil.rmtree(root / "faces" / split / folder)
    return root


def _merge_words(root: pathlib.Path) -> pathlib.Path:
    for split in ("train", "val", "test"):
        (root / "faces" / split / "Angry").rename(root / "faces" / split / "Happiness")
    return root


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(damage.nowhere, "found none at", id="nowhere"),
        pytest.param(damage.empty, "an empty folder", id="empty"),
        pytest.param(damage.half_an_archive, "cannot be read", id="half_an_archive"),
        pytest.param(damage.outside, "points outside", id="outside"),
        pytest.param(damage.wrong_archive, "found RaFD", id="wrong_archive"),
        pytest.param(damage.added("faces/1.jpg"), "found 1 elsewhere: 1.jpg", id="loose"),
        pytest.param(damage.added("faces/train/1.jpg"), "elsewhere: train/1.jpg", id="no_class"),
        pytest.param(damage.added("faces/train/Sad/old/1.jpg"), "train/Sad/old/1.jpg", id="deep"),
        pytest.param(
            damage.renamed("faces/val/Sad", "sadly"), "same class folders", id="unknown_class"
        ),
        pytest.param(damage.removed("faces/test/Sad/*"), "no images of Sad", id="empty_class"),
        pytest.param(damage.removed("faces/*/Sad/*"), "found none in Sad", id="empty_everywhere"),
        pytest.param(damage.removed("faces/train"), "expected a folder train", id="no_train"),
        pytest.param(_one_class, "at least two class folders", id="one_class"),
        pytest.param(_merge_words, "for one emotion", id="two_words"),
        pytest.param(
            damage.replaced("faces/subjects.csv", "file,", "name,"), "file, subject", id="header"
        ),
        pytest.param(
            damage.replaced("faces/subjects.csv", "train/Angry/p000 0.jpg", "who.jpg"),
            "none for train/Angry/p000 0.jpg",
            id="nobody",
        ),
        pytest.param(
            damage.replaced("faces/subjects.csv", "file,subject", "file,subject\nwho.jpg,p9"),
            "unknown files who.jpg",
            id="no_such_image",
        ),
        pytest.param(damage.truncated(IMAGE), "truncated", id="truncated"),
        pytest.param(damage.no_image(IMAGE), "not a JPEG", id="no_image"),
        pytest.param(damage.huge(IMAGE), "60000 x 60000", id="huge"),
    ],
)
def test_bad_folder_is_a_user_error(bad, message, faces, tmp_path, monkeypatch) -> None:
    damage.check("image_folder", bad, message, faces, tmp_path, monkeypatch)


def test_bad_folder_exits_with_code_2(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        commands.run("prepare", "image_folder", "--manual_dir", _write(tmp_path / "mine", "happy"))
    assert stopped.value.code == 2
    assert "error: expected at least two class folders" in capsys.readouterr().err
