"""JAFFE from every layout, its people in one split each, bad copies."""

from __future__ import annotations

import collections
import pathlib
import shutil

import pytest

from fer_jax import labels
from tests.tfds_builders import damage
from tfds_builders import prepare as build
from tfds_builders.jaffe import names
from tfds_builders.stand_ins import jaffe as stand_in

IMAGE = "jaffedbase/*.tiff"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return damage.write_stand_in(tmp_path_factory, "jaffe", 0.01)


def _packed(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return damage.pack(tree, out / "jaffedbase.zip").parent


def _flat(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return tree / "jaffedbase"


def _other_endings(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    for file in (tree / "jaffedbase").glob("*.tiff"):
        target = out / "JAFFE" / f"{file.stem.lower()}.tif.JPG"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return out


def _unpacked_beside_its_archive(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    shutil.copytree(tree, out)
    return damage.pack(tree, out / "jaffe.zip").parent


@pytest.mark.parametrize("layout", [_packed, _flat, _other_endings, _unpacked_beside_its_archive])
def test_all_layouts_give_the_same_records(
    layout, tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = damage.open_copy("jaffe", tmp_path, tree).records
    found = damage.open_copy("jaffe", tmp_path, layout(tree, tmp_path / "copy")).records
    assert [one.row for one in found] == [one.row for one in whole]


def test_prepare_splits_by_person(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepared = build.prepare("jaffe", None, str(tmp_path), str(tree))
    assert prepared.label_names == labels.JAFFE
    people = {
        split: {prepared.entries[row].subject for row in rows}
        for split, rows in prepared.splits.items()
    }
    assert sorted(map(len, people.values())) == [1, 1, 2]
    assert len(set.union(*people.values())) == 4
    assert prepared.metadata["leaks"] == 0
    assert prepared.metadata["stand_in"]
    assert prepared.metadata["dropped"] == {"a second copy of the same image": ["KA.AN1.1"]}
    fold = build.prepare("jaffe", None, str(tmp_path), str(tree), protocol="fold2of4")
    assert len({fold.entries[row].subject for row in fold.splits["test"]}) == 1


def test_parse_file_name() -> None:
    assert names.image_id("a/ka.fe2.46.tiff") == "KA.FE2.46"
    assert names.parse("KA.FE2.46") == ("KA", labels.FEAR)
    assert names.parse("KA.XX2.46") is None
    assert names.image_id("README") is None
    assert names.image_id("._KA.FE2.46.tiff") is None


def test_full_scale_has_the_published_counts() -> None:
    files = stand_in.files(1.0)
    assert len(files) == stand_in.count_images(1.0) == 213
    assert {person for person, _, _ in files} == set(names.PEOPLE)
    counts = collections.Counter(code for _, code, _ in files)
    assert counts == {"AN": 30, "DI": 29, "FE": 32, "HA": 31, "NE": 30, "SA": 31, "SU": 30}


def test_killed_stand_in_resumes_byte_for_byte(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = pathlib.Path(shutil.copytree(tree, tmp_path / "copy"))
    sorted(copy.rglob("*.tiff"))[0].unlink()
    assert sum(stand_in.write(copy, 0.01)) == stand_in.count_images(0.01)
    assert damage.content(copy) == damage.content(tree)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *damage.common(IMAGE, "jaffedbase.zip"),
        pytest.param(damage.renamed(IMAGE, "holiday.tiff"), "holiday.tiff", id="strange_name"),
        pytest.param(damage.renamed(IMAGE, "KA.XX1.39.tiff"), "KA.XX1.39", id="unknown_class"),
        pytest.param(damage.removed("jaffedbase/*.FE*"), "found none of fear", id="empty_class"),
        pytest.param(
            damage.added("old/KA.AN1.1.tiff", b"II*\0"), "two that differ", id="two_that_differ"
        ),
    ],
)
def test_bad_copy_is_a_user_error(bad, message, tree, tmp_path, monkeypatch) -> None:
    damage.check("jaffe", bad, message, tree, tmp_path, monkeypatch)
