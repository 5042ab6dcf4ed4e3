"""The vocabulary of split names, and that every builder with split folders uses it."""

from __future__ import annotations

import pathlib

import pytest

from fer_jax import labels
from tests.tfds_builders import damage, small_kdef
from tfds_builders import splits
from tfds_builders.sfew import names as sfew

WORDS = {
    "train": """train Train TRAIN training trainset Train_Set train-images FER2013Train train_class
        TrainingSet""",
    "validation": """val Val valid validation dev PublicTest publictest public_test val_set
        FER2013Valid ValidationSet Val_Aligned_Faces_new""",
    "test": "test Test testing TestSet test_images PrivateTest Private-Test FER2013Test eval",
    None: "happy contest latest pretrain trainer 0 fer2013 Tests protest testy value faces",
}


@pytest.mark.parametrize(("split", "words"), WORDS.items())
def test_split_of_a_folder(split: str | None, words: str) -> None:
    assert {word: splits.by_folder([word]).get(word) for word in words.split()} == dict.fromkeys(
        words.split(), split
    )


@pytest.mark.parametrize(
    ("folders", "of_eval"),
    [(("train", "eval"), "test"), (("dev", "eval"), "test"), (("eval", "Test"), "validation")],
)
def test_eval_depends_on_the_other_folders(folders: tuple[str, ...], of_eval: str) -> None:
    assert splits.by_folder(folders)["eval"] == of_eval


SETS = {"image_folder": labels.SEVEN, "fer2013": labels.FER2013, "raf_db": labels.RAF_DB,
        "affectnet": labels.AFFECTNET}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val", "test"),
        ("Train_Set", "dev", "eval"),
        ("Training", "PublicTest", "PrivateTest"),
    ],
)
def test_builders_read_all_split_folders(
    name: str, folders: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "copy"
    for split, folder in zip(("train", "validation", "test"), folders, strict=True):
        for label in SETS[name]:
            file = root / folder / label / f"{split} {label}.jpg"
            file.parent.mkdir(parents=True)
            file.write_bytes(small_kdef.draw(file.stem))
    opened = damage.open_copy(name, tmp_path, root)
    for one in opened.records:
        stem = pathlib.PurePath(one.file).stem
        assert stem == f"{one.split} {one.label}"
    assert len(opened.records) == 3 * len(SETS[name])
    assert opened.unused == {}


@pytest.mark.parametrize(
    ("file", "split", "is_aligned"),
    [
        ("Valid/Happy/a.png", "validation", False),
        ("Train_Aligned_Faces/Happy/a.png", "train", True),
        ("Val_Aligned_Faces_new/Happy/a.png", "validation", True),
        ("x/Test/Test_Aligned_Faces/a.png", "test", True),
    ],
)
def test_sfew(file: str, split: str, is_aligned: bool) -> None:
    location = sfew.parse(file)
    assert location is not None
    assert (location.split, location.is_aligned) == (split, is_aligned)
