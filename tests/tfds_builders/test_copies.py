"""Copies of sets in other forms than the publisher's: read with the right labels and splits."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from fer_jax import errors, labels
from tests.tfds_builders import damage, small_kdef, small_sets
from tfds_builders import prepare as build
from tfds_builders.ck_plus import names as ck_plus
from tfds_builders.fer2013 import names as fer2013
from tfds_builders.ferplus import ferplus_dataset_builder as ferplus
from tfds_builders.kdef import names as kdef

SPLIT_OF = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


def _image(file: pathlib.Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draw = small_sets.png if file.suffix == ".png" else small_kdef.draw
    file.write_bytes(draw(str(file)))


def _pixels(number: int) -> str:
    return " ".join(map(str, np.random.default_rng(number).integers(0, 256, 48 * 48)))


def _table(file: pathlib.Path, header: str, rows: Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in (header, *rows) if line))


def _kdef_as_png(root: pathlib.Path) -> collections.Counter:
    for person in ("AF01", "AF02", "AF03", "BM01", "BM02", "BM03"):
        for expression in kdef.EXPRESSIONS:
            _image(root / f"{person}{expression}S.png")
            _image(root / "side" / f"{person}{expression}HL_crop 224.jpg")
    return collections.Counter({("pictures", label): 12 for label in labels.KDEF})


def _affectnet_numbers(root: pathlib.Path) -> collections.Counter:
    for split, each in (("train", 3), ("val", 2)):
        for code in range(9):  # 8 is "none", which is no class
            for number in range(each):
                _image(root / f"{split}_class" / str(code) / f"{number}.jpg")
    return _each(labels.AFFECTNET, train=3, validation=2)


def _affectnet_words(root: pathlib.Path) -> collections.Counter:
    words = ("Neutral", "happy", "Sad", "surprise", "fear", "Disgust", "anger")  # no contempt
    for split in ("Train", "Valid", "Test"):
        for word in words:
            _image(root / split / word / "1.png")
    return _each(labels.AFFECTNET[:7], train=1, validation=1, test=1)


def _ck_extended(root: pathlib.Path) -> collections.Counter:
    rows = [(code, usage) for usage in SPLIT_OF for code in range(8) for _ in range(2)]
    lines = [f"{code},{_pixels(at)},{usage}" for at, (code, usage) in enumerate(rows)]
    _table(root / "ckextended.csv", "emotion,pixels,Usage", lines)
    return _each(labels.CK_PLUS, train=2, validation=2, test=2)


def _fer2013_challenge(root: pathlib.Path) -> collections.Counter:
    rows = [f"{at % 7},{_pixels(at)}" for at in range(35)]
    _table(root / "train.csv", "emotion,pixels", rows)
    return collections.Counter({("pictures", label): 5 for label in labels.FER2013})


def _raf_db_tables(root: pathlib.Path) -> collections.Counter:
    for split, each in (("train", 3), ("test", 2)):
        rows = []
        for at in range(7 * each):
            _image(root / "DATASET" / split / f"{split}_{at:05d}_aligned.jpg")
            rows.append(f"{split}_{at:05d}_aligned.jpg,{at % 7 + 1}")
        _table(root / f"{split}_labels.csv", "image,label", rows)
    return _each(labels.RAF_DB, train=3, test=2)


def _votes(at: int) -> str:
    cast = [0] * 10
    cast[at % 8] = 10
    return ",".join(map(str, cast))


def _ferplus_folders(root: pathlib.Path) -> collections.Counter:
    for folder in ("FER2013Train", "FER2013Valid", "FER2013Test"):
        for at in range(16):
            _image(root / "data" / folder / _ferplus_name(folder, at))
        rows = [f'{_ferplus_name(folder, at)},"(0, 0, 48, 48)",{_votes(at)}' for at in range(16)]
        _table(root / "data" / folder / "label.csv", "", rows)
    return _each(labels.FERPLUS, train=2, validation=2, test=2)


def _ferplus_one_table(root: pathlib.Path) -> collections.Counter:
    rows = []
    for folder, usage in zip(
        ("FER2013Train", "FER2013Valid", "FER2013Test"), SPLIT_OF, strict=True
    ):
        for at in range(16):
            _image(root / folder / _ferplus_name(folder, at))
            rows.append(f"{usage},{_ferplus_name(folder, at)},{_votes(at)}")
    rows.append(f"PrivateTest,,{_votes(0)}")  # excluded by FER+
    columns = ",".join(("Usage", "Image name", *ferplus.votes.CHOICES))
    _table(root / "fer2013new.csv", columns, rows)
    return _each(labels.FERPLUS, train=2, validation=2, test=2)


def _ferplus_name(folder: str, at: int) -> str:
    return f"fer{at + 100 * len(folder) + 1000 * ('V' in folder):07d}.png"


def _each(names: Iterable[str], **splits: int) -> collections.Counter:
    return collections.Counter(
        {(split, label): n for split, n in splits.items() for label in names}
    )


@pytest.mark.parametrize(
    ("name", "variant", "write", "protocol"),
    [
        ("kdef", None, _kdef_as_png, None),
        ("affectnet", None, _affectnet_numbers, None),
        ("affectnet", None, _affectnet_words, "seven"),
        ("ck_plus", None, _ck_extended, None),
        ("fer2013", None, _fer2013_challenge, None),
        ("raf_db", "folder_raf", _raf_db_tables, None),
        ("ferplus", None, _ferplus_folders, None),
        ("ferplus", None, _ferplus_one_table, None),
    ],
)
def test_other_forms_of_a_set_are_read(
    name: str,
    variant: str | None,
    write: Callable[[pathlib.Path], collections.Counter],
    protocol: str | None,
    tmp_path: pathlib.Path,
) -> None:
    root = tmp_path / "copy"
    expected = write(root)
    opened = damage.open_copy(name, tmp_path, root, variant)
    assert collections.Counter((one.split, one.label) for one in opened.records) == expected
    assert opened.unused == {}
    prepared = build.prepare(name, variant, str(tmp_path / "data"), str(root), protocol=protocol)
    assert all(len(rows) for rows in prepared.splits.values())
    assert len(prepared.entries) == expected.total()
    of_test = {prepared.entries[row].split for row in prepared.splits["test"]}
    stored = {split for split, _ in expected}
    assert of_test == {"test" if "test" in stored else min(stored & {"pictures", "validation"})}


def test_missing_images_of_ferplus_are_drops(tmp_path: pathlib.Path) -> None:
    _ferplus_folders(tmp_path / "copy")
    gone = sorted((tmp_path / "copy" / "data" / "FER2013Train").glob("*.png"))[3]
    gone.unlink()
    opened = damage.open_copy("ferplus", tmp_path, tmp_path / "copy")
    assert [(one.file, one.reason) for one in opened.drops] == [(gone.name, ferplus.NO_IMAGE)]


def test_the_challenge_of_fer2013_says_that_its_splits_are_drawn(tmp_path: pathlib.Path) -> None:
    _fer2013_challenge(tmp_path / "copy")
    (tmp_path / "copy" / "test.csv").write_text("pixels\n")
    prepared = build.prepare("fer2013", None, str(tmp_path / "data"), str(tmp_path / "copy"))
    assert any("train.csv has no PublicTest" in note for note in prepared.metadata["notes"])
    assert prepared.metadata["unused"] == {"tables": {"test.csv": 1}}


def test_another_train_csv_is_not_fer2013(tmp_path: pathlib.Path) -> None:
    _table(tmp_path / "copy" / "train.csv", "PassengerId,Survived", ["1,0"])
    with pytest.raises(errors.UserError, match=r"expected fer2013\.csv or icml"):
        damage.open_copy("fer2013", tmp_path, tmp_path / "copy")


@pytest.mark.parametrize("label", ["1", "happy"])
def test_numbers_in_tables_of_raf_db_need_an_order(label: str, tmp_path: pathlib.Path) -> None:
    _raf_db_tables(tmp_path / "copy")
    for table in (tmp_path / "copy").glob("*.csv"):
        words = dict(zip("1234567", labels.RAF_DB, strict=True))
        lines = table.read_text().splitlines()
        named = [f"{line[:-1]}{words[line[-1]]}" for line in lines[1:]]
        if label == "happy":
            table.write_text("\n".join([lines[0], *named]))
    if label == "happy":
        assert damage.open_copy("raf_db", tmp_path, tmp_path / "copy").records
    else:
        message = small_sets.refused("raf_db", tmp_path / "copy", tmp_path / "data")
        assert "--config folder_raf        1 surprise, 2 fear" in message


def test_unused_images_tables_and_archives_are_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "copy"
    _kdef_as_png(root)
    for file in ("AKDEF/a.jpg", "AKDEF/b.heic", "holiday.webp", ".cache/x.jpg", "._AF01AFS.png"):
        damage.added(file)(root)
    for file in ("emotions.xlsx", "KDEF part 2.rar", "notes.txt"):
        damage.added(file)(root)
    build.prepare("kdef", None, str(tmp_path / "data"), str(root))
    line = "not used: 3 images (AKDEF: 2, .: 1); 1 archive (KDEF part 2.rar); 1 table (emotions."
    assert line in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "file", "data", "message"),
    [
        ("kdef", "KDEF.rar", b"", "a rar archive, which cannot be read: unpack it"),
        ("kdef", "KDEF_and_AKDEF.zip", b"7z\xbc\xaf\x27\x1c", "which is a 7z archive. Unpack"),
        ("image_folder", "photos.7z", b"", "a 7z archive, which cannot be read: unpack it"),
    ],
)
def test_archives_that_cannot_be_read(
    name: str, file: str, data: bytes, message: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / file).write_bytes(data)
    with pytest.raises(errors.UserError, match=message):
        damage.open_copy(name, tmp_path, tmp_path / file)


def test_the_codes_of_the_small_tables() -> None:
    assert fer2013.CODES["6"] == labels.NEUTRAL
    assert ck_plus.EXTENDED_CODES == fer2013.CODES | {"7": labels.CONTEMPT}
