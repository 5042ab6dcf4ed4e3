"""AffectNet from csv lists and npy files: splits, boxes, unused codes, bad copies."""

from __future__ import annotations

import collections
import io
import pathlib
import shutil
import tracemalloc

import numpy as np
import pytest

from fer_jax import labels
from tests.tfds_builders import damage
from tfds_builders import prepare as build
from tfds_builders import sources
from tfds_builders.affectnet import affectnet_dataset_builder as affectnet
from tfds_builders.affectnet import names
from tfds_builders.stand_ins import affectnet as stand_in

SCALE = 0.0001
LISTS = "Manually_Annotated_file_lists"
TRAIN = f"{LISTS}/training.csv"
VALIDATION = f"{LISTS}/validation.csv"
IMAGE = "Manually_Annotated_Images/" + next(
    row.path for row in stand_in.rows(SCALE) if row.code == 0 and row.path.endswith(".jpg")
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return damage.write_stand_in(tmp_path_factory, "affectnet", SCALE)


@pytest.fixture(scope="module")
def npy(tmp_path_factory: pytest.TempPathFactory, tree: pathlib.Path) -> pathlib.Path:
    """The smaller release: numbered crops, and npy annotations of text or numbers."""
    out = tmp_path_factory.mktemp("npy") / "AffectNet"
    files = {names.key(str(file)): file for file in tree.glob("Manually_Annotated_Images/*/*.jpg")}
    numbers: collections.Counter[str] = collections.Counter()
    for row in stand_in.rows(SCALE):
        if names.key(row.path) not in files or row.code > 8:
            continue
        folder = out / names.FOLDERS[row.split]
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        one = numbers[row.split]
        shutil.copy(files[names.key(row.path)], folder / "images" / f"{one}.jpg")
        value = np.array(str(row.code)) if one % 2 else np.array(row.code)
        np.save(folder / "annotations" / f"{one}_exp.npy", value)
        np.save(folder / "annotations" / f"{one}_val.npy", np.array("-0.5"))
        np.save(folder / "annotations" / f"{one}_lnd.npy", np.arange(136.0))
        numbers[row.split] += 1
    return out


def test_lists_give_labels_boxes_and_values(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    opened = damage.open_copy("affectnet", tmp_path, tree)
    rows = {names.key(row.path).rpartition(".")[0]: row for row in stand_in.rows(SCALE)}
    assert len(opened.records) + len(opened.drops) == len(rows)
    for one in opened.records:
        row = rows[one.id]
        assert (one.label, one.split) == (labels.AFFECTNET[row.code], row.split)
        face = stand_in.render_photo(row, 2)
        assert one.face_box == tuple(round(value) for value in face.face_box)
        np.testing.assert_allclose(one.landmarks, face.landmarks, atol=0.1)
        assert set(one.extras) == {"valence", "arousal"}
    reasons = collections.Counter(drop.reason for drop in opened.drops)
    assert reasons == {
        f"no expression: {why}": sum(row.code == int(code) for row in rows.values())
        for code, why in names.UNUSED.items()
    }


def test_faces_are_cropped_by_the_shipped_boxes(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    boxes = {one.id: one.face_box for one in damage.open_copy("affectnet", tmp_path, tree).records}
    for example in damage.read("affectnet", tmp_path, tree)[:5]:
        x, y, *_ = boxes[example["id"]]
        assert example["face_source"] == "shipped"
        if min(x, y) >= 0:
            np.testing.assert_array_less(np.abs(example["face_box"][:2] - (x, y)), 1)
        assert not np.isnan(example["landmarks"]).any()


def test_prepared_tests_on_the_validation_part(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepared = build.prepare("affectnet", None, str(tmp_path), str(tree))
    assert prepared.label_names == labels.AFFECTNET
    stored = {split: {prepared.entries[row].split for row in rows}
              for split, rows in prepared.splits.items()}  # fmt: skip
    assert stored == {"train": {"train"}, "validation": {"train"}, "test": {"validation"}}
    assert np.bincount(prepared.labels("test")).tolist() == [3] * 8
    seven = build.prepare("affectnet", None, str(tmp_path), str(tree), protocol="seven")
    assert seven.label_names == labels.AFFECTNET[:7]
    assert seven.metadata["left_out"] == {"contempt": 6}


def _npy_packed(npy: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    for part in ("train_set", "val_set"):
        shutil.copytree(npy / part, out / "parts" / part / part)
        damage.pack(out / "parts" / part, out / f"{part}.zip")
    shutil.rmtree(out / "parts")
    return out


def test_npy_files_give_labels_and_whole_images(npy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    opened = damage.open_copy("affectnet", tmp_path, npy)
    packed = damage.open_copy("affectnet", tmp_path, _npy_packed(npy, tmp_path / "packed"))
    assert [one.row for one in packed.records] == [one.row for one in opened.records]
    assert {drop.reason for drop in opened.drops} == {"no expression: none"}
    for one in opened.records:
        folder, number = one.id.split("/")
        code = int(np.load(npy / folder / "annotations" / f"{number}_exp.npy"))
        assert one.label == labels.AFFECTNET[code]
        assert dict(one.extras) == {"valence": -0.5, "arousal": -2.0}
        assert one.landmarks[0].tolist() == [77.0, 78.0]  # the mean of points 36 to 41
    example = damage.read("affectnet", tmp_path, npy)[0]
    assert example["face_box"][:2].tolist() == [0, 0]
    assert example["face_source"] == "shipped"


def _flat(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Lists beside the folders, both with a header, and with Windows paths."""
    shutil.copytree(tree / "Manually_Annotated_Images", out / "manually_annotated_images")
    for table in names.TABLES.values():
        text = (tree / LISTS / table).read_text()
        if not text.startswith("sub"):
            text = ",".join(names.COLUMNS) + "\n" + text
        (out / table.upper()).write_text(text.replace("/", "\\"))
    return out


def _zips(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    damage.pack(tree / LISTS, out / "Manually_Annotated_file_lists.zip")
    damage.pack(tree / "Manually_Annotated_Images", out / "Manually_Annotated.zip")
    return out


@pytest.mark.parametrize("layout", [_flat, _zips])
def test_all_layouts_give_the_same_records(
    layout, tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = damage.open_copy("affectnet", tmp_path, tree).records
    found = damage.open_copy("affectnet", tmp_path, layout(tree, tmp_path / "copy")).records
    assert [one.row for one in found] == [one.row for one in whole]


class _ManyRows:
    """A copy with long lists, of which only the image names exist."""

    path = pathlib.Path("AffectNet")

    def __init__(self, count: int):
        points = ";".join(["123.45"] * 136)
        rows = [f"1/{number:056x}.jpg,1,2,30,40,{points},{number % 8},0.5,0.5"
                for number in range(count)]  # fmt: skip
        text = "\n".join([",".join(names.COLUMNS), *rows])
        self._tables = {"training.csv": text.encode(), "validation.csv": text.encode()}
        self._sizes = {row.split(",")[0]: 1 for row in rows}
        self._sizes |= {name: len(data) for name, data in self._tables.items()}

    def sizes(self) -> dict[str, int]:
        return self._sizes

    def read(self, name: str, limit: int = 0) -> bytes:
        raise sources.MemberError(name)

    def stream(self, name: str):
        return io.BytesIO(self._tables[name])


def test_a_record_takes_little_memory(tmp_path: pathlib.Path, tree: pathlib.Path) -> None:
    """A complete copy has 290,000 records: each may take at most 1.5 kB."""
    builder = damage.get("affectnet", tmp_path, tree)
    source = _ManyRows(500)
    tracemalloc.start()
    records, drops = builder.index(source)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(records) == 500
    assert len(drops) == 500  # listed twice
    assert size / (len(records) + len(drops)) < 1_500


def test_full_scale_has_the_published_counts() -> None:
    assert affectnet.Builder.EXPECTED == {"train": 414_799, "validation": 5_500}
    assert sum(names.COUNTS["train"][:8]) == 287_651
    assert sum(names.COUNTS["validation"][:8]) == 4_000
    assert stand_in.count_images(1.0) == 420_299


def test_killed_stand_in_resumes_byte_for_byte(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = pathlib.Path(shutil.copytree(tree, tmp_path / "copy"))
    for lost in ("*.bmp", "training.csv"):
        sorted(copy.rglob(lost))[0].unlink()
    assert sum(stand_in.write(copy, SCALE)) == stand_in.count_images(SCALE)
    assert damage.content(copy) == damage.content(tree)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *damage.common(IMAGE, "AffectNet's training.csv and validation.csv"),
        pytest.param(damage.removed(VALIDATION), "AffectNet's validation.csv", id="no_list"),
        pytest.param(
            damage.removed("Manually_Annotated_Images"), "Manually_Annotated_Images", id="no_images"
        ),
        pytest.param(damage.replaced(TRAIN, "expression", "emotion"), "columns sub", id="header"),
        pytest.param(damage.replaced(VALIDATION, ",7,", ",17,"), "found '17'", id="unknown_class"),
        pytest.param(
            damage.rewritten(
                TRAIN,
                lambda data: b"\n".join(
                    line for line in data.split(b"\n") if b",7,0.2,-0.25" not in line
                ),
            ),
            "found none of contempt",
            id="empty_class",
        ),
        pytest.param(
            damage.replaced(TRAIN, ",-0.25\n", ",high\n"), "valence and arousal", id="no_number"
        ),
    ],
)
def test_bad_copy_is_a_user_error(bad, message, tree, tmp_path, monkeypatch) -> None:
    damage.check("affectnet", bad, message, tree, tmp_path, monkeypatch)


def test_missing_images_are_dropped_or_an_error(
    tree: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(tree, tmp_path / "copy")
    first = sorted(copy.glob(IMAGE))[0]
    first.unlink()
    opened = damage.open_copy("affectnet", tmp_path, copy)
    (drop,) = [drop for drop in opened.drops if drop.reason == affectnet.NO_IMAGE]
    assert drop.id.endswith(first.name)
    damage.check("affectnet", damage.removed("Manually_Annotated_Images/*/*[0-7].*"),
                 "without", tree, tmp_path, monkeypatch)  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(damage.removed("val_set"), "AffectNet's val_set/images", id="missing_part"),
        pytest.param(
            damage.rewritten("train_set/annotations/*_exp.npy", lambda _: b"7"),
            "expected a number in",
            id="no_npy",
        ),
        pytest.param(damage.truncated("train_set/images/*.jpg"), "truncated", id="truncated"),
        pytest.param(damage.huge("train_set/images/*.jpg"), "60000 x 60000", id="huge"),
    ],
)
def test_bad_npy_copy_is_a_user_error(bad, message, npy, tmp_path, monkeypatch) -> None:
    damage.check("affectnet", bad, message, npy, tmp_path, monkeypatch)


def test_rar_archives_are_named(tmp_path: pathlib.Path, monkeypatch) -> None:
    tree = tmp_path / "sent"
    tree.mkdir()
    bad = damage.added("Manually_Annotated.part01.rar")
    damage.check("affectnet", bad, "Unpack Manually_Annotated.part01.rar", tree, tmp_path,
                 monkeypatch)  # fmt: skip
