"""Photos and videos into shards: inputs, rows, going on after a kill, and what is refused."""

from __future__ import annotations

import csv
import json
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from pyarrow import parquet

from fer_jax import errors
from fer_jax.cli import predict as verb
from fer_jax.executor import Executor
from fer_jax.inference import corpus, corpus_worker, segments, sources, stream
from fer_jax.inference.results import FRAME_COLUMNS
from fer_jax.inference.stream import PredictOptions
from tests.small_runs import write_video

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


@pytest.fixture
def clip(portraits, tmp_path) -> pathlib.Path:
    """28 frames: two people, nobody, one."""
    pair, one = np.hstack(portraits[:2]), np.hstack([portraits[2], np.zeros_like(portraits[0])])
    scenes = [np.roll(pair, number, 1) for number in range(12)]
    scenes += [np.zeros_like(pair)] * 4 + [np.roll(one, number, 1) for number in range(12)]
    (tmp_path / "videos").mkdir()
    return write_video(tmp_path / "videos" / "clip.mp4", scenes)


@pytest.fixture
def small_segments(monkeypatch) -> None:
    monkeypatch.setattr(corpus, "SHARD", 8)
    monkeypatch.setattr(segments, "_LEAD", 4)


def predict(run, inputs, out, kind="csv", executor=IN_PROCESS, options=WHOLE) -> list[str]:
    return list(corpus.predict(run, list(map(str, inputs)), out, options, kind, executor))


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


def test_a_video_has_the_rows_of_one_pass(run, model, clip, tmp_path, small_segments):
    options = PredictOptions("all", whole_image=True, explain=False, min_share=0.1)
    (clip.parent / "broken.mp4").write_bytes(clip.read_bytes()[:5000])
    out = tmp_path / "out"
    lines = predict(run, [clip.parent], out, "parquet", options=options)
    source = sources.Source(str(clip), "video", clip)
    expected = [
        (frame.index, frame.seconds, number, face)
        for frame, prediction in stream.predict_frames(model, [source], options)
        for number, face in enumerate(prediction.faces)
    ]
    broken, *table = parquet.read_table(out).to_pylist()
    assert broken["error"] == "not a video that can be decoded"
    assert broken["source"] == str(clip.parent / "broken.mp4")
    assert broken["frame"] is None
    assert sorted({row["frame"] for row in table}) == list(range(28))
    found = [row for row in table if row["face"] is not None]
    assert 30 < len(found) == len(expected)
    for row, (index, seconds, number, face) in zip(found, expected, strict=True):
        assert (row["frame"], row["seconds"], row["face"]) == (index, seconds, number)
        assert (row["x"], row["y"], row["width"], row["height"]) == face.box
        assert row["label"] == face.label
        for name, value in face.probabilities.items():
            assert row[f"probability_{name}"] == pytest.approx(value, abs=1e-5)
        assert row["bytes"] == clip.stat().st_size
    assert lines[0] == f"{len(found)} faces in 28 frames"
    assert lines[1].startswith("1 photos and segments of videos could not be read")
    assert lines[2] == f"5 segments of videos in 5 files: {out}"


def test_a_video_goes_on_behind_its_finished_segments(
    run, photos, clip, tmp_path, small_segments, monkeypatch
):
    inputs = [photos, clip, clip]
    predict(run, inputs, tmp_path / "whole")
    out, begun, read = tmp_path / "out", [], segments.read

    def stops(part):
        begun.append(part.segment.number)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return read(part)

    monkeypatch.setattr(segments, "read", stops)
    with pytest.raises(KeyboardInterrupt):
        predict(run, inputs, out, executor=Executor(1, processes=False))
    before = {path: path.stat().st_mtime_ns for path in out.glob("shard*")}
    assert len(before) == 5
    begun[:] = [-1] * 4
    lines = predict(run, inputs, out, executor=Executor(1, processes=False))
    assert begun[4:] == [3, 0, 1, 2, 3]
    assert lines[0] == "32 faces in 32 frames; 10 photos and 3 segments of videos were done before"
    assert before == {path: path.stat().st_mtime_ns for path in before}
    for path in (tmp_path / "whole").glob("shard*"):
        assert (out / path.name).read_bytes() == path.read_bytes()


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


COMMAND = """
import pathlib, sys
from fer_jax import run_dir
from tests.inference.test_corpus import Executor, corpus, predict

corpus.SHARD = 320
run, out, *inputs = map(pathlib.Path, sys.argv[1:])
predict(run_dir.open_run(run), inputs, out, executor=Executor(2))
"""


@pytest.mark.slow
def test_processes_give_the_same_bytes_also_after_kill_9(run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD", 320)
    scene = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    video = write_video(tmp_path / "long.mp4", [np.roll(scene, n, 1) for n in range(3200)])
    one, three, killed = (tmp_path / name for name in ("1", "3", "killed"))
    for workers, out in ((1, one), (3, three)):
        predict(run, [photos, video], out, executor=Executor(workers))
    command = [sys.executable, "-c", COMMAND, run.folder, killed, photos, video]
    with subprocess.Popen(command) as process:
        while len(list(killed.glob("shard*"))) < 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in killed.glob("shard*")}
    assert 3 <= len(before) < 11
    predict(run, [photos, video], killed, executor=Executor(2))
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert [int(row["frame"]) for row in rows(killed)[10:]] == list(range(3200))
    for path in sorted(one.glob("shard*")):
        assert path.read_bytes() == (three / path.name).read_bytes()
        assert path.read_bytes() == (killed / path.name).read_bytes()
