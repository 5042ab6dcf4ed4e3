"""Photos into shards: inputs, rows, going on after a kill, and what is refused."""

from __future__ import annotations

import csv
import json
import pathlib

import cv2
import numpy as np
import pytest
from pyarrow import parquet

from fer_jax import errors
from fer_jax.cli import predict as verb
from fer_jax.executor import Executor
from fer_jax.inference import corpus, corpus_worker
from fer_jax.inference.results import FRAME_COLUMNS
from fer_jax.inference.stream import PredictOptions

WHOLE = PredictOptions("whole", whole_image=True, explain=False, min_share=0.1)
IN_PROCESS = Executor(2, processes=False)


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """Ten tiny photos in two folders, one of them damaged; and a text."""
    rng = np.random.default_rng(0)
    for number in range(10):
        path = tmp_path / "photos" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (48, 48, 3), np.uint8))
    (tmp_path / "photos" / "0" / "4.png").write_bytes(b"no photo")
    (tmp_path / "photos" / "notes.txt").touch()
    return tmp_path / "photos"


def predict(run, inputs, out, kind="csv", executor=IN_PROCESS) -> list[str]:
    return list(corpus.predict(run, list(map(str, inputs)), out, WHOLE, kind, executor))


def rows(out: pathlib.Path) -> list[dict[str, str]]:
    shards = sorted(out.glob("shard-*"))
    return [row for shard in shards for row in csv.DictReader(shard.read_text().splitlines())]


def test_a_row_per_face_and_one_for_an_unreadable_photo(run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD", 4)
    lines = predict(run, [photos], tmp_path / "out")
    assert lines[0] == "9 faces in 10 photos"
    assert lines[1].startswith("1 photos could not be read")
    assert "1 .txt" in lines[2]
    found = rows(tmp_path / "out")
    assert [row["source"] for row in found] == [
        str(photos / f"{number % 2}" / f"{number}.png") for number in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    ]
    assert [bool(row["error"]) for row in found] == [number == 2 for number in range(10)]
    assert found[2]["label"] == ""
    assert found[2]["bytes"] == "8"
    one = found[0]
    assert sum(float(one[f"probability_{label}"]) for label in run.labels) == pytest.approx(
        1, abs=1e-5
    )
    assert one["found"] == "given"
    assert int(one["bytes"]) == (photos / "0" / "0.png").stat().st_size
    stored = json.loads((tmp_path / "out" / "_corpus.json").read_text())
    assert {(row["model"], row["version"]) for row in found} == {
        (stored["model"], stored["version"])
    }


def test_parquet_has_the_values_of_csv(run, photos, tmp_path):
    predict(run, [photos], tmp_path / "csv")
    predict(run, [photos], tmp_path / "parquet", "parquet")
    table = parquet.read_table(tmp_path / "parquet" / "shard-000000.parquet").to_pylist()
    texts = rows(tmp_path / "csv")
    assert list(table[0]) == list(texts[0])
    assert set(FRAME_COLUMNS) <= set(table[0])
    assert parquet.read_table(tmp_path / "parquet").num_rows == len(table)  # the folder as a whole
    for values, text in zip(table, texts, strict=True):
        for name, value in values.items():
            shown = "" if value is None else f"{value:.6f}" if isinstance(value, float) else value
            assert str(shown) == text[name]


def test_it_goes_on_behind_the_shards_that_exist(run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD", 4)
    monkeypatch.setattr(corpus, "PIECE", 2)
    predict(run, [photos], tmp_path / "whole")
    out, read, read_image = tmp_path / "out", [], corpus_worker.read_image

    def stops(path):
        if len(read) == 7:
            raise KeyboardInterrupt
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(corpus_worker, "read_image", stops)
    with pytest.raises(KeyboardInterrupt):
        predict(run, [photos], out, executor=Executor(1, processes=False))
    first = out / "shard-000000.csv"
    before = first.stat().st_mtime_ns
    assert [path.name for path in out.glob("shard*")] == [first.name]
    (out / ".shard-000001.csv.1.tmp").touch()  # of a kill while it was written
    read.clear()
    monkeypatch.setattr(
        corpus_worker, "read_image", lambda path: read.append(path) or read_image(path)
    )
    assert predict(run, [photos], out)[0] == "6 faces in 6 photos; 4 photos were done before"
    assert len(read) == 6
    assert first.stat().st_mtime_ns == before
    assert rows(out) == rows(tmp_path / "whole")
    assert not list(out.glob("*.tmp"))
    assert predict(run, [photos], out)[0] == "0 faces in 0 photos; 10 photos were done before"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_paths(photos, tmp_path, kind):
    import pyarrow

    names = ["photos/1/3.png", str(photos / "0" / "2.png"), "photos/gone.png"]
    table = tmp_path / f"list.{kind}"
    if kind == "csv":
        table.write_text("label,path\n" + "".join(f"x,{name}\n" for name in names))
    else:
        parquet.write_table(pyarrow.table({"path": names}), table)
    found = list(corpus.list_files([str(table)], tmp_path / "out"))
    assert found == [str(tmp_path / "photos/1/3.png"), names[1], str(tmp_path / "photos/gone.png")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\na.png\n", "expected a table with a column 'path'"),
        ("path\nnowhere://bucket/a.png\n", "found the URL nowhere://bucket/a.png"),
        ("path\n", "expected photos or videos in .*, found none"),
    ],
)
def test_a_table_that_cannot_be_used(run, tmp_path, text, message):
    table = tmp_path / "list.csv"
    table.write_text(text)
    with pytest.raises(errors.UserError, match=message):
        predict(run, [table], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_photos_or_flags_need_another_folder(run, photos, tmp_path):
    predict(run, [photos], tmp_path / "out")
    with pytest.raises(errors.UserError, match="kind csv then, parquet now; choose another --out"):
        predict(run, [photos], tmp_path / "out", "parquet")
    (photos / "0" / "2.png").unlink()
    with pytest.raises(errors.UserError, match="photos 10 then, 9 now"):
        predict(run, [photos], tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shards", "csv"], "expected --out FOLDER with --shards"),
        (["--workers", "2"], "expected --shards parquet or csv with --workers"),
        (["--cluster", "auto"], "expected --shards parquet or csv with --cluster"),
        (["--shards", "csv", "--out", "o", "--explain"], "found --explain"),
        (["--shards", "csv", "--out", "o", "--workers", "0"], "--workers of at least 1, found 0"),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    with pytest.raises(errors.UserError, match=message):
        verb.parse(["photos", *flags])


@pytest.mark.slow
def test_processes_give_the_same_bytes(run, photos, tmp_path, monkeypatch):
    for workers in (1, 3):
        predict(run, [photos], tmp_path / str(workers), executor=Executor(workers))
    one, three = ((tmp_path / name / "shard-000000.csv").read_bytes() for name in ("1", "3"))
    assert one == three
