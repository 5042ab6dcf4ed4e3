"""A user's own images: splits, classes, subjects, config names, bad folders."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import shlex
import shutil
import subprocess
import zlib

import numpy as np
import pytest

from fer_jax import errors, labels
from fer_jax.faces.crop import crop_square
from fer_jax.faces.decode import decode
from fer_jax.faces.detect import MtcnnDetector
from tests import commands
from tests.tfds_builders import damage
from tfds_builders import manual, protocols, sources
from tfds_builders import prepare as build
from tfds_builders.encode import encode_jpeg, encode_png
from tfds_builders.image_folder import image_folder_dataset_builder as builder
from tfds_builders.image_folder import sample, tree
from tfds_builders.stand_ins import image_folder as stand_in
from tfds_builders.synthface import presets, render_subject

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
    assert "6 subjects in subjects.csv" in " ".join(capsys.readouterr().out.split())
    assert prepared.label_names == EMOTIONS
    for split, rows in prepared.splits.items():
        assert {prepared.entries[row].split for row in rows} == {split}
    assert prepared.metadata["leaks"] == 0
    assert prepared.metadata["stand_in"]
    (reason,) = prepared.metadata["dropped"]
    assert prepared.metadata["dropped"][reason] == ["faces/notes.txt",
                                                    "faces/train/Angry/Thumbs.db"]  # fmt: skip
    assert len(prepared.entries) == stand_in.count_images(0.01)


def test_a_name_that_is_not_utf8_is_left_out_and_named(tmp_path: pathlib.Path, capsys) -> None:
    root = _write(tmp_path / "own", "happy", "sad")
    pathlib.Path(os.fsdecode(os.fsencode(root) + b"/happy/caf\xe9.jpg")).write_bytes(_draw(9))
    prepared = _prepare(tmp_path, root)
    assert prepared.metadata["dropped"] == {manual.NO_TEXT: [r"happy/caf\udce9.jpg"]}
    assert len(prepared.entries) == 8
    table = (pathlib.Path(prepared.builder.data_dir) / "dropped.csv").read_text()
    assert r"happy/caf\udce9.jpg" in table


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
        (("train",), {"train": {"train"}, "validation": {"train"}, "test": {"train"}}),
        (("Train", "VAL"), {"train": {"train"}, "validation": {"validation"}, "test": {"train"}}),
        (
            ("Train_Set", "eval", "FER2013Test"),
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


def test_changes_of_a_folder_are_named_with_a_command_that_works(tmp_path: pathlib.Path) -> None:
    root, data = _write(tmp_path / "it's mine", "a", "b", each=6), tmp_path / "data"
    _prepare(tmp_path, root, crop={"margin": 0.2})
    _add(root / "a" / "new.jpg")
    (root / "b" / "0.jpg").unlink()
    with pytest.raises(errors.UserError) as refused:
        _prepare(tmp_path, root, crop={"margin": 0.2})
    message = str(refused.value)
    assert "it's mine has changed (1 new: a/new.jpg; 1 gone: b/0.jpg)" in message
    command = shlex.split(message[message.index("fer-jax prepare") :])
    assert command[-3:] == ["--manual_dir", str(root), "--rebuild"]
    assert str(data) in command
    commands.run(*command[1:])
    assert not _prepare(tmp_path, root, crop={"margin": 0.2}).is_new


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_manual_dir_may_be_an_archive(kind: str, tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "mine", "a", "b", each=3)
    archive = shutil.make_archive(
        str(tmp_path / "packed"), {"tar.gz": "gztar"}.get(kind, kind), tmp_path, root.name
    )
    first = _prepare(tmp_path, pathlib.Path(archive))
    assert [one.id for one in first.entries] == [f"{c}/{i}.jpg" for c in "ab" for i in range(3)]
    assert not _prepare(tmp_path, pathlib.Path(archive)).is_new


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("Angry", "Happy"), {"Happy": "happiness", "Angry": "anger"}),
        (("angry", "bored", "Happy"), {"Happy": "happiness", "angry": "anger", "bored": "bored"}),
        (("0", "1", "calm"), {"0": "0", "1": "1", "calm": "calm"}),
    ],
)
def test_class_names(folders, names, tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "mine", *folders, each=1)
    found = tree.parse(damage.open_copy("image_folder", tmp_path, root).source)
    assert list(found.classes.items()) == list(names.items())


PEOPLE = [f"{person}/{label}" for person in ("anna", "ben", "cora", "dan") for label in ("a", "b")]


@pytest.mark.parametrize(
    ("folders", "people"),
    [
        pytest.param(PEOPLE, "anna ben cora dan", id="all"),
        pytest.param([*PEOPLE, "eve/a"], "anna ben cora dan eve", id="a person lacks a class"),
        pytest.param([*PEOPLE, "eve/fear"], "anna ben cora dan eve", id="an emotion of one person"),
        pytest.param(["anna/happy", "anna/sad"], "", id="one person"),
        pytest.param([*PEOPLE, "eve/c"], None, id="a class of one person"),
        pytest.param(["happy/x", "sad/x", "happy/y", "sad/y"], None, id="people in classes"),
        pytest.param(["happy/train", "sad/train", "happy/test", "sad/test"], None, id="splits"),
        pytest.param([*PEOPLE, "eve"], None, id="images beside classes"),
    ],
)
def test_person_folders(folders: list[str], people: str | None, tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "mine", *folders, each=1)
    if people is None:
        with pytest.raises(errors.UserError, match=r"elsewhere|names of splits"):
            damage.open_copy("image_folder", tmp_path, root)
        return
    opened = damage.open_copy("image_folder", tmp_path, root)
    assert sorted({one.subject for one in opened.records} - {""}) == people.split()
    assert {one.label for one in opened.records} >= (
        {"a", "b"} if people else {"happiness", "sadness"}
    )


def test_a_person_is_in_one_split(tmp_path: pathlib.Path, capsys) -> None:
    prepared = _prepare(tmp_path, _write(tmp_path / "mine", *PEOPLE, each=2))
    assert "4 subjects in person folders" in capsys.readouterr().out
    assert prepared.metadata["leaks"] == 0
    people = [{prepared.entries[row].subject for row in rows} for rows in prepared.splits.values()]
    assert sorted(map(len, people)) == [1, 1, 2]


def test_every_split_has_a_class_of_few_people() -> None:
    rows = [protocols.Row(f"{person} {label}", label, f"p{person}", protocols.STORED)
            for person in range(20) for label in "abc" if label != "c" or person < 4]  # fmt: skip
    lacking = 0
    for seed in range(20):
        assigned = builder.by_folders(rows, seed)
        assert {assigned[row.id] for row in rows if row.label == "c"} == set(protocols.SPLITS)
        first = protocols.by_group(rows, seed)
        complete = {first[row.id] for row in rows if row.label == "c"} == set(protocols.SPLITS)
        lacking += not complete
        assert assigned == first or not complete
    assert lacking > 5
    alone = [row for row in rows if row.label != "c" or row.group == "p0"]
    assert builder.by_folders(alone, 0) == protocols.by_group(alone, 0)


@pytest.mark.parametrize(
    ("images", "shares", "are_crops"),
    [
        pytest.param(32, [0.36] * 30, False, id="portraits"),
        pytest.param(32, [0.5] * 32, False, id="heads"),
        pytest.param(32, [0.7] * 32, True, id="faces"),
        pytest.param(32, [0.86] * 25 + [0.2] * 7, True, id="a few photos among them"),
        pytest.param(32, [0.3] * 7, True, id="hardly any face is detected"),
        pytest.param(32, [0.3] * 8, False, id="a quarter has one"),
        pytest.param(2, [], True, id="no face"),
        pytest.param(0, [], True, id="nothing can be read"),
    ],
)
def test_crops_or_photos(images: int, shares: list[float], are_crops: bool) -> None:
    seen = sample.Sample(images, tuple(shares))
    assert seen.are_crops == are_crops
    assert ("face crops" in str(seen)) == are_crops


def test_a_sample_of_photos_and_of_their_crops(tmp_path: pathlib.Path) -> None:
    spec = dataclasses.replace(presets.demo(77, 3, 128), yaws=(0.0,), views=0, fill=(0.45, 0.6),
                               expressions=(labels.NEUTRAL,))  # fmt: skip
    detector = MtcnnDetector(0.1)
    for person in range(3):
        photo = render_subject(spec, person)[0].image
        crop = crop_square(photo, detector.detect(photo)[0].box, 0.1)
        for folder, image in (("photos", photo), ("crops", crop)):
            path = tmp_path / folder / f"{person}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode_jpeg(image, 90))
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    for folder, share in (("photos", 0.35), ("crops", 0.7)):
        source = sources.FolderSource(tmp_path / folder)
        seen = sample.read_sample(source, list(source.sizes()))
        assert seen.images == len(seen.shares) == 3
        assert seen.shares == pytest.approx([share] * 3, abs=0.1)
        assert seen.are_crops == (folder == "crops")


def test_pad_stores_squares(tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "mine", "a", "b", each=3)
    rows = np.arange(0, 160, 10, np.uint8)  # 16 rows of 32 pixels
    image = np.broadcast_to(rows[:, None, None], (16, 32, 3))
    (root / "a" / "0.png").write_bytes(encode_png(np.ascontiguousarray(image)))
    prepared = build.prepare("image_folder", "pad", str(tmp_path / "data"), str(root))
    stored = {entry.id: prepared.record(row) for row, entry in enumerate(prepared.entries)}
    padded = decode(stored["a/0.png"]["image"])
    expected = [0] * 8 + [*range(0, 160, 10)] + [150] * 8
    assert padded.shape == (32, 32, 3)
    np.testing.assert_allclose(padded[:, 5, 0], expected, atol=4)  # JPEG
    assert tuple(stored["a/0.png"]["face_box"]) == (0, 0, 32, 16)
    # A square image is stored byte for byte.
    assert stored["b/0.jpg"]["image"] == (root / "b" / "0.jpg").read_bytes()


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


def _numbers(root: pathlib.Path) -> pathlib.Path:
    for split in ("train", "val", "test"):
        for number, folder in enumerate(sorted((root / "faces" / split).glob("[!.]*"))):
            folder.rename(folder.with_name(str(number)))
    return root


def _many_tables(root: pathlib.Path) -> pathlib.Path:
    return damage.added("faces/train/Subjects.CSV", b"file,subject")(root)


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
            damage.removed("faces/train/Sad"), "rename test/Sad, val/Sad to .Sad", id="leave_out"
        ),
        pytest.param(_numbers, "prepare affectnet --manual_dir", id="numbers"),
        pytest.param(damage.renamed("faces/val", "part2"), "named train, val, test", id="unknown"),
        pytest.param(damage.added("faces/dev/1.txt"), "found none (.txt files) in dev", id="dev"),
        pytest.param(_many_tables, "expected one subjects.csv", id="two_tables"),
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


@pytest.mark.parametrize(
    ("name", "separator", "encoding"),
    [
        ("subjects.csv", ";", "utf-8-sig"),
        ("Subjects.CSV", "\t", "utf-16"),
        ("SUBJECTS.csv", ",", "cp1252"),
    ],
)
def test_subject_tables_of_spreadsheet_programs(
    name: str, separator: str, encoding: str, tmp_path: pathlib.Path
) -> None:
    root = _write(tmp_path / "mine", "happy", "sad", each=3)
    (root / "happy" / "0.jpg").rename(root / "happy" / "e\u0301.jpg")  # as macOS writes it
    rows = [["File", "Subject"], ["happy\\\u00e9.jpg", "Zo\u00eb 0"]]
    rows += [[f"{folder}/{i}.jpg", f"Zo\u00eb {i}"] for folder in ("happy", "sad")
             for i in range(3) if (folder, i) != ("happy", 0)]  # fmt: skip
    (root / name).write_bytes("\r\n".join(map(separator.join, rows)).encode(encoding))
    records = damage.open_copy("image_folder", tmp_path, root).records
    assert {one.subject for one in records} == {"Zo\u00eb 0", "Zo\u00eb 1", "Zo\u00eb 2"}


def test_class_with_two_images_is_named(tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "mine", "happy", "sad", each=3)
    (root / "sad" / "2.jpg").unlink()
    with pytest.raises(errors.UserError, match=r"3 images of sadness.*found 2: sad.*leave the cl"):
        _prepare(tmp_path, root)


def _named(root: pathlib.Path) -> None:
    for number in range(8):
        for word in ("happy", "Sad"):
            _add(root / "train" / f"p{number}_{word}.jpg")
            _add(root / "Test set" / f"p{number} {word}.jpg")


def _swapped(root: pathlib.Path) -> None:
    for folder in ("happy/train", "happy/test", "Sad/train", "Sad/test"):
        for number in range(8):
            _add(root / folder / f"{number}.jpg")


def _yolo(root: pathlib.Path, place: str = "{kind}/{split}", names: str = "[happy, 'Sad']") -> None:
    for split in ("train", "test"):
        for number in range(17):
            stem = place.format(kind="images", split=split)
            _add(root / stem / f"{number} a.jpg")
            lines = root / place.format(kind="labels", split=split) / f"{number} a.txt"
            lines.parent.mkdir(parents=True, exist_ok=True)
            lines.write_text(f"{number % 2} 0.5 0.5 1 1\n" if number < 16 else "")
    (root / "data.yaml").write_text(f"nc: 2\nnames: {names}\nroboflow: x\n")


def _yolo_by_split(root: pathlib.Path) -> None:
    _yolo(root, "{split}/{kind}", "\n  0: happy\n  1: Sad")


def _add(file: pathlib.Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_draw(zlib.crc32(file.name.encode() + file.parent.name.encode()) % 1000))


@pytest.mark.parametrize("write", [_named, _swapped, _yolo, _yolo_by_split])
def test_the_commands_for_other_layouts_work(write, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "it's mine"
    write(root)
    with pytest.raises(errors.UserError) as refused:
        damage.open_copy("image_folder", tmp_path, root)
    *commands_, prepare = str(refused.value).splitlines()[1:]
    assert prepare == '  fer-jax prepare image_folder --manual_dir "$out"'
    subprocess.run(["bash", "-euc", "\n".join(commands_)], check=True, cwd=tmp_path)
    records = damage.open_copy("image_folder", tmp_path, tmp_path / "it's mine_sorted").records
    counts = collections.Counter((one.split, one.label) for one in records)
    assert set(counts.values()) == {8}
    assert set(counts) == {
        (split, label) for split in ("train", "test") for label in ("happiness", "sadness")
    }


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("FER2013Train/label.csv", "fer-jax prepare ferplus --manual_dir"),
        ("train_labels.csv", "fer-jax prepare raf_db --config folder_raf --manual_dir"),
        ("readme.txt", "Put the images of each split into one folder per class"),
    ],
)
def test_split_folders_are_never_classes(file: str, message: str, tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "my faces", "FER2013Train", "FER2013Test")
    (root / file).write_text("")
    with pytest.raises(errors.UserError, match="names of splits: FER2013Test, FER") as refused:
        damage.open_copy("image_folder", tmp_path, root)
    assert message in str(refused.value)


def test_only_a_test_folder_is_refused(tmp_path: pathlib.Path) -> None:
    root = _write(tmp_path / "mine", "test/happy", "test/sad")
    with pytest.raises(errors.UserError, match="a folder train beside test"):
        damage.open_copy("image_folder", tmp_path, root)
    assert damage.open_copy("image_folder", tmp_path, root / "test").records
