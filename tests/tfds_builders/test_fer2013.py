"""FER2013 from its csv, in every archive format, and from folders: the same labels and splits."""

from __future__ import annotations

import collections
import pathlib
import re
import shutil
import tarfile
import zipfile

import cv2
import numpy as np
import pytest

from fer_jax import labels
from fer_jax.faces.decode import decode
from tests.tfds_builders import damage
from tfds_builders import prepare as build
from tfds_builders.fer2013 import names
from tfds_builders.stand_ins import fer2013 as stand_in

TABLE = "fer2013.csv"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return damage.write_stand_in(tmp_path_factory, "fer2013", 0.003)


def _folders(tree: pathlib.Path, out: pathlib.Path, *, prefix: bool = True) -> pathlib.Path:
    """The images of the csv in class folders, as in most copies on Kaggle, but lossless."""
    words = {emotion: word for word, emotion in labels.ALIASES.items() if word in _WORDS}
    lines = (tree / TABLE).read_text().splitlines()[1:]
    for number, line in enumerate(lines):
        code, values, usage = line.split(",")
        label = labels.FER2013[int(code)]
        gray = np.array(values.split(), np.uint8).reshape(48, 48)
        split = "train" if usage == "Training" else "test"
        if not prefix:
            split = names.USAGES[usage]
        name = f"{usage}_{number * 37}.png" if prefix else f"im{number}.png"
        target = out / split / words.get(label, label) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), gray)
    return out


_WORDS = ("angry", "happy", "sad")


def _by_pixels(name: str, tmp_path: pathlib.Path, manual_dir: pathlib.Path) -> collections.Counter:
    """Counts of (pixels, label, split)."""
    opened = damage.open_copy(name, tmp_path, manual_dir)
    examples = damage.read(name, tmp_path, manual_dir)
    split_of = {one.id: one.split for one in opened.records}
    return collections.Counter(
        (
            decode(example["image"].getvalue()).tobytes(),
            example["label"],
            split_of[example["id"]],
        )
        for example in examples
    )


def test_csv_and_folders_give_the_same_labels_and_splits(
    tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    from_table = _by_pixels("fer2013", tmp_path, tree)
    lines = (tree / TABLE).read_text().splitlines()[1:]
    assert sum(from_table.values()) == len(lines)
    code, values, usage = lines[0].split(",")
    gray = np.array(values.split(), np.uint8).reshape(48, 48, 1)
    first = (np.repeat(gray, 3, axis=2).tobytes(), labels.FER2013[int(code)], "train")
    assert usage == "Training"
    assert from_table[first] >= 1  # stored losslessly
    assert _by_pixels("fer2013", tmp_path, _folders(tree, tmp_path / "one")) == from_table
    parted = _folders(tree, tmp_path / "other", prefix=False)
    assert _by_pixels("fer2013", tmp_path, parted) == from_table


def _deeper(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    shutil.copytree(tree, out / "fer2013" / "fer2013")
    return out


def _tar(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    out.mkdir()
    with tarfile.open(out / "fer2013.tar.gz", "w:gz") as archive:
        archive.add(tree / TABLE, "fer2013/fer2013.csv")
    return out


def _zip_of_a_tar(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    _tar(tree, out)
    with zipfile.ZipFile(out / "facial-expression-recognition-challenge.zip", "w") as archive:
        archive.write(out / "fer2013.tar.gz", "fer2013.tar.gz")
        archive.writestr("train.csv", "emotion,pixels\n0,1 2 3\n")
    (out / "fer2013.tar.gz").unlink()
    return out


def _challenge(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    out.mkdir()
    lines = (tree / TABLE).read_text().splitlines()[1:]
    parts = [line.split(",") for line in lines]
    text = "".join(f"{code}, {usage},{values}\n" for code, values, usage in parts)
    (out / "icml_face_data.csv").write_text("emotion, Usage, pixels\n" + text)
    return out


@pytest.mark.parametrize("layout", [_deeper, _tar, _zip_of_a_tar, _challenge])
def test_all_layouts_give_the_same_records(
    layout, tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = damage.open_copy("fer2013", tmp_path, tree).records
    found = damage.open_copy("fer2013", tmp_path, layout(tree, tmp_path / "copy")).records
    assert [one.row for one in found] == [one.row for one in whole]
    np.testing.assert_array_equal(found[-1].pixels(), whole[-1].pixels())


def test_prepare_with_official_splits(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepared = build.prepare("fer2013", None, str(tmp_path), str(tree))
    assert prepared.label_names == labels.FER2013
    assert prepared.metadata["stand_in"]
    assert prepared.metadata["near_duplicates"] >= 3  # the stand-in's, as in the real set
    expected = dict(zip(names.USAGES.values(), names.COUNTS, strict=True))
    rows = stand_in.rows(0.003)
    for split, usage in expected.items():
        assert len(prepared.splits[split]) == sum(row.usage == usage for row in rows)
    record = prepared.record(int(prepared.splits["test"][0]))
    assert record["image"].startswith(b"\x89PNG")
    assert record["id"].decode().startswith("PrivateTest_")


def test_full_scale_has_the_published_counts() -> None:
    rows = stand_in.rows(1.0)
    counts = collections.Counter((row.usage, row.label) for row in rows)
    for usage, expected in names.COUNTS.items():
        assert tuple(counts[usage, label] for label in labels.FER2013) == expected
    assert names.expected() == {"train": 28_709, "validation": 3_589, "test": 3_589}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(damage.nowhere, "no such folder", id="nowhere"),
        pytest.param(damage.wrong_archive, "fer2013.csv", id="wrong_archive"),
        pytest.param(damage.half_an_archive, "cannot be read", id="half_an_archive"),
        pytest.param(damage.outside, "points outside", id="outside"),
        pytest.param(damage.renamed(TABLE, "train.csv"), "icml_face_data.csv", id="missing_part"),
        pytest.param(
            damage.replaced(TABLE, "emotion,pixels,Usage", "emotion,pixels"),
            "found emotion, pixels",
            id="another_header",
        ),
        pytest.param(
            damage.replaced(TABLE, ",Training", ",Trainig"), "'Trainig'", id="unknown_usage"
        ),
        pytest.param(damage.replaced(TABLE, "\n3,", "\n7,"), "emotion from 0 to 6", id="class"),
        pytest.param(
            damage.rewritten(TABLE, lambda data: b"\n".join(data.split(b"\n")[:80])),
            "no test and no validation",
            id="cut_off",
        ),
        pytest.param(
            damage.rewritten(TABLE, lambda data: b"emotion,pixels,Usage\n" + b"\xff\0" * 999),
            "unreadable text",
            id="no_table",
        ),
        pytest.param(
            damage.rewritten(
                TABLE,
                lambda data: b"\n".join(
                    line for line in data.split(b"\n") if not line.startswith(b"1,")
                ),
            ),
            "found none of disgust",
            id="empty_class",
        ),
        pytest.param(
            damage.rewritten(TABLE, lambda data: re.sub(rb"\n3,\d+", b"\n3,256", data, count=1)),
            "not 2304 values from 0 to 255",
            id="value",
        ),
        pytest.param(damage.replaced(TABLE, "\n3,", "\n3,7 "), "not 2304 values", id="too_many"),
    ],
)
def test_bad_csv_is_a_user_error(bad, message, tree, tmp_path, monkeypatch) -> None:
    damage.check("fer2013", bad, message, tree, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def folders(tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return _folders(tree, tmp_path_factory.mktemp("folders") / "archive")


def _without_usage(root: pathlib.Path) -> pathlib.Path:
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        file.rename(file.with_name(f"{number}.png"))
    return root


def _numbers_for_classes(root: pathlib.Path) -> pathlib.Path:
    for split in root.iterdir():
        for number, folder in enumerate(sorted(split.iterdir())):
            folder.rename(split / str(number))
    return root


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(_without_usage, "PublicTest_ and PrivateTest_", id="no_usage"),
        pytest.param(_numbers_for_classes, "numbers can mean", id="numbers"),
        pytest.param(damage.renamed("train/fear", "fright"), "train/fright", id="unknown_class"),
        pytest.param(damage.removed("train/fear/*"), "found none of fear", id="empty_class"),
        pytest.param(damage.removed("test"), "no test and no validation", id="missing_part"),
        pytest.param(damage.truncated("train/fear/*"), "truncated", id="truncated"),
        pytest.param(damage.no_image("train/fear/*"), "not a JPEG", id="no_image"),
        pytest.param(damage.huge("train/fear/*"), "60000 x 60000", id="huge"),
    ],
)
def test_bad_folders_are_a_user_error(bad, message, folders, tmp_path, monkeypatch) -> None:
    damage.check("fer2013", bad, message, folders, tmp_path, monkeypatch)
