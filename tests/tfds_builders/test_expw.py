"""ExpW: several faces in a photograph, each photograph in one split, bad copies."""

from __future__ import annotations

import collections
import pathlib
import shutil

import numpy as np
import pytest

from fer_jax import labels
from tests.tfds_builders import damage
from tfds_builders import prepare as build
from tfds_builders.expw import expw_dataset_builder as expw
from tfds_builders.expw import names
from tfds_builders.stand_ins import expw as stand_in

SCALE = 0.0003
LIST = "label.lst"
IMAGE = "origin/*.jpg"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return damage.write_stand_in(tmp_path_factory, "expw", SCALE)


def _as_sent(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    shutil.copytree(tree / "origin", out / "image" / "origin")
    (out / "label").mkdir()
    shutil.copy(tree / LIST, out / "label" / LIST)
    return out


def _zipped_photographs(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    damage.pack(tree / "origin", out / "image.zip")
    shutil.copy(tree / LIST, out)
    return out


def _one_archive(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return damage.pack(tree, out / "ExpW.zip")


@pytest.mark.parametrize("layout", [_as_sent, _zipped_photographs, _one_archive])
def test_all_layouts_give_the_same_records(
    layout, tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = damage.open_copy("expw", tmp_path, tree).records
    found = damage.open_copy("expw", tmp_path, layout(tree, tmp_path / "copy")).records
    assert [one.row for one in found] == [one.row for one in whole]


def test_each_line_is_one_face(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    records = damage.open_copy("expw", tmp_path, tree).records
    photos = {one.name.removesuffix(".jpg"): one for one in stand_in.photos(SCALE)}
    assert len(records) == stand_in.count_images(SCALE)
    for one in records:
        photo, _, face = one.id.rpartition("_")
        assert one.subject == photo
        assert one.label == photos[photo].emotions[int(face)]
        x, y, width, height = stand_in.render_faces(photos[photo], 2)[int(face)].face_box
        expected = (x + 200 * int(face), y, width, height)
        np.testing.assert_allclose(one.face_box, expected, atol=1.0)
        assert one.extras == {"confidence": 40 + 3.5 * int(face)}


def test_prepare_splits_by_photograph(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepared = build.prepare("expw", None, str(tmp_path), str(tree))
    assert prepared.label_names == labels.EXPW
    assert prepared.metadata["leaks"] == 0
    assert prepared.metadata["group"] == "photo"
    several = [one for one in prepared.entries if one.id.endswith("_1")]
    assert several
    record = prepared.record(int(prepared.splits["train"][0]))
    assert record["face_source"].decode() == "shipped"
    assert record["confidence"] >= 40


def test_box_beyond_the_border_is_clipped(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    records = {one.id: one for one in damage.open_copy("expw", tmp_path, tree).records}
    over = {one.id for one in records.values() if one.face_box[1] + one.face_box[3] > 200}
    assert over
    for example in damage.read("expw", tmp_path, tree):
        x, y, _, height = example["face_box"]
        assert min(x, y) >= 0
        assert y + height <= 200


def test_full_scale_has_the_published_counts() -> None:
    counts = collections.Counter(
        emotion for photo in stand_in.photos(1.0) for emotion in photo.emotions
    )
    assert tuple(counts[label] for label in labels.EXPW) == names.COUNTS
    assert sum(counts.values()) == names.FACES == 91_793


def test_few_bad_lines_are_dropped(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = shutil.copytree(tree, tmp_path / "copy")
    lines = (copy / LIST).read_text().splitlines()
    lines += [lines[0], "gone.jpg 0 1 2 30 40 50 3", "angry_man_00000.jpg 9 50 60 60 50 9 3", ""]
    (copy / LIST).write_text("\n".join(lines) + "\n")
    drops = damage.open_copy("expw", tmp_path, copy).drops
    assert [drop.reason for drop in drops] == [expw.LISTED_TWICE, expw.NO_PHOTO, expw.NO_AREA]


def _first_line(change) -> damage.Damage:
    return damage.rewritten(
        LIST, lambda data: b"\n".join([change(data.split(b"\n")[0]), *data.split(b"\n")[1:]])
    )


def test_killed_stand_in_resumes_byte_for_byte(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = pathlib.Path(shutil.copytree(tree, tmp_path / "copy"))
    for lost in ("*.jpg", "label.lst"):
        sorted(copy.rglob(lost))[0].unlink()
    assert sum(stand_in.write(copy, SCALE)) == stand_in.count_images(SCALE)
    assert damage.content(copy) == damage.content(tree)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *damage.common(IMAGE, "label.lst and the photographs"),
        pytest.param(damage.removed(LIST), "expected label.lst in", id="no_list"),
        pytest.param(damage.removed("origin"), "expected the photographs", id="no_images"),
        pytest.param(damage.removed("origin/*[1-9].jpg"), "Part of the set", id="missing"),
        pytest.param(
            _first_line(lambda line: b"image_name,face_id,top,left"),
            "expected 8 words",
            id="header",
        ),
        pytest.param(_first_line(lambda line: line[:-1] + b"8"), "0 to 6 in line 1", id="class"),
        pytest.param(_first_line(lambda line: b"\xff" + line), "in line 1 of", id="no_text"),
        pytest.param(
            damage.rewritten(
                LIST,
                lambda data: b"\n".join(
                    line for line in data.split(b"\n") if not line.endswith(b" 2")
                ),
            ),
            "found none of fear",
            id="empty_class",
        ),
    ],
)
def test_bad_copy_is_a_user_error(bad, message, tree, tmp_path, monkeypatch) -> None:
    damage.check("expw", bad, message, tree, tmp_path, monkeypatch)


def test_7z_archives_are_named(tree: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> None:
    def bad(root: pathlib.Path) -> pathlib.Path:
        shutil.rmtree(root / "origin")
        return damage.added("image.7z.001", b"7z")(root)

    damage.check("expw", bad, "Unpack image.7z.001 first", tree, tmp_path, monkeypatch)
