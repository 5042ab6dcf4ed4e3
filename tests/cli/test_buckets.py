"""Every step in a bucket: prepare, train, resume, evaluate, load, predict."""

from __future__ import annotations

import csv
import io
import itertools
import json

import fsspec
import numpy as np
import pytest

import fer_jax
from fer_jax import buckets
from fer_jax import config as configuration
from fer_jax.errors import UserError
from fer_jax.executor import Executor
from fer_jax.training.train import train
from fer_jax.working_copy import WorkingCopy, working_copy
from tests import commands
from tests.small_runs import portraits, write_image, write_run, write_video
from tfds_builders.encode import encode_jpeg

__all__ = ["portraits"]

BUCKET = "memory://bucket"
RUN, DATA = f"{BUCKET}/runs/tiny", f"{BUCKET}/data"


class KilledError(BaseException):
    """Ends a process of the test."""


@pytest.fixture
def store(monkeypatch, tmp_path):
    """An empty bucket in this process, and copies in a folder of the test."""
    monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fer_jax.working_copy.PATIENCE_SECONDS", 0.1)
    buckets.read_only.cache_clear()
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def another_machine(monkeypatch, tmp_path):
    """Returns a function that leaves nothing but the bucket."""

    def leave() -> None:
        monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "cache of another machine"))
        buckets.read_only.cache_clear()

    return leave


def test_a_checkpoint_is_in_the_bucket_when_it_is_saved(
    store, tmp_path, capsys, portraits, another_machine
):
    with working_copy(RUN) as folder:
        write_run(folder)
        found = json.loads(store.cat_file(f"/bucket/runs/tiny/{buckets.MANIFEST}"))["files"]
        assert {"run.json", "checkpoints/0/memory/metadata"} <= found.keys()
    another_machine()
    photo = write_image(tmp_path / "anna.png", portraits[0])
    model = fer_jax.load(RUN)
    (prediction,) = model.predict([photo])
    (face,) = prediction.faces
    commands.run("predict", RUN, photo)
    assert face.label in capsys.readouterr().out
    with pytest.raises(UserError, match=r"expected a run directory with a run.json at mem"):
        fer_jax.load(f"{BUCKET}/none")


@pytest.mark.slow
def test_a_killed_run_is_resumed_by_a_machine_that_shares_a_bucket_only(
    store, tiny, data_dir, tmp_path, monkeypatch, capsys, another_machine
):
    arguments = [*tiny, "--config.train.epochs=2"]
    store.put(str(data_dir / "synthetic_faces"), "/bucket/data/synthetic_faces", recursive=True)
    pushes, push = [], WorkingCopy.push

    def push_once(copy: WorkingCopy) -> None:
        pushes.append(copy.url)
        if len(pushes) > 1:
            raise KilledError
        push(copy)

    with monkeypatch.context() as patch:
        patch.setattr(WorkingCopy, "push", push_once)
        with pytest.raises(KilledError):
            commands.run("train", *arguments, f"--config.data.dir={DATA}", "--workdir", RUN)
    assert set(pushes) == {RUN}
    assert store.isdir("/bucket/runs/tiny/checkpoints/35")
    another_machine()
    commands.run("train", *arguments, f"--config.data.dir={DATA}", "--workdir", RUN)
    said = capsys.readouterr().out
    assert "resuming at step 35 of 70" in said
    assert said.endswith(f"copied to {RUN}\n")
    assert store.isfile("/bucket/runs/tiny/report/index.html")
    assert not store.isfile("/bucket/runs/tiny/.fer_jax/owner.json")

    local = [*(one.removeprefix("--config.") for one in arguments[1:]), f"data.dir={data_dir}"]
    train(configuration.load_settings("configs/demo.py", local), tmp_path / "unbroken")
    expected = (tmp_path / "unbroken/checkpoints/70/memory/metadata").read_text()
    found = store.cat_file("/bucket/runs/tiny/checkpoints/70/memory/metadata")
    assert json.loads(found)["digests"] == json.loads(expected)["digests"]

    commands.run("evaluate", RUN, "--split", "validation")
    assert store.glob("/bucket/runs/tiny/evaluations/*-validation/index.html")


def test_a_state_over_several_processes_needs_a_shared_disk(store, tiny, monkeypatch, capsys):
    monkeypatch.setattr("fer_jax.runtime.distributed.is_single_process", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        commands.run("train", *tiny, "--config.train.fsdp=4", "--workdir", RUN)
    assert "config.train.fsdp=4 over several of them, found memory://" in capsys.readouterr().err


def test_a_set_is_prepared_once_for_all_machines(store, capsys, another_machine):
    for number, name in itertools.product(range(8), ("happy", "sad")):
        image = np.random.default_rng([number, ord(name[0])]).integers(0, 255, (16, 16, 3))
        content = encode_jpeg(image.astype(np.uint8), 90)
        store.pipe_file(f"/bucket/photos/{name}/{number}.jpg", content)
    command = ["prepare", "image_folder", "--data_dir", DATA, "--config", "pad"]
    commands.run(*command, "--manual_dir", f"{BUCKET}/photos")
    said = capsys.readouterr().out
    assert f"source   {BUCKET}/photos" in said
    assert f"written  {DATA}/image_folder/pad-photos-" in said
    (manifest,) = store.glob("/bucket/data/image_folder/pad-photos-*/*/.fer_jax/files.json")
    another_machine()
    commands.run(*command, "--manual_dir", f"{BUCKET}/photos")
    assert "already prepared" in capsys.readouterr().out
    another_machine()
    variant = manifest.split("/")[4]
    commands.run(*command[:-1], variant)
    assert "already prepared" in capsys.readouterr().out


def test_photos_are_read_from_a_bucket_and_results_written_there(
    store, tmp_path, monkeypatch, capsys, portraits, another_machine
):
    for name in ("b/anna.png", "ben.png"):
        write_image(tmp_path / name, portraits[0])
        store.put(str(tmp_path / name), f"/bucket/photos/{name}")
    store.pipe_file("/bucket/photos/notes.txt", b"none")
    store.pipe_file("/bucket/list.csv", f"path\nphotos/ben.png\n{BUCKET}/none.png\n".encode())
    photos = [f"{BUCKET}/photos/b/anna.png", f"{BUCKET}/photos/ben.png"]
    commands.run("predict", f"{BUCKET}/photos", "--out", f"{BUCKET}/out", "--no_pictures")
    assert f"copied to {BUCKET}/out" in capsys.readouterr().out
    assert [row["source"] for row in rows_in(store, "out/predictions.csv")] == photos

    # Threads: the store is this process's only.
    threads = Executor(2, processes=False)
    monkeypatch.setattr("fer_jax.cli.predict.make_executor", lambda options: threads)
    monkeypatch.setattr("fer_jax.inference.corpus.SHARD", 3)
    clip = write_video(tmp_path / "clip.mp4", [portraits[0]] * 2)
    store.put(str(clip), "/bucket/photos/clip.mp4")
    command = ["predict", f"{BUCKET}/photos", f"{BUCKET}/list.csv", "--shards", "csv"]
    before = "0 faces in 0 photos; 4 photos and 1 segments of videos were done before"
    for done in ("5 faces in 4 photos and 2 frames", before):
        commands.run(*command, "--out", f"{BUCKET}/shards")
        said = capsys.readouterr().out
        assert done in said
        assert f"4 photos and 1 segments of videos in 3 files: {BUCKET}/shards" in said
        another_machine()
    rows = [row for number in range(3) for row in rows_in(store, f"shards/shard-00000{number}.csv")]
    video = f"{BUCKET}/photos/clip.mp4"
    others = [video, video, photos[1], f"{BUCKET}/none.png"]
    assert [row["source"] for row in rows] == [*photos, *others]
    assert [bool(row["error"]) for row in rows] == [False] * 5 + [True]
    assert rows[0]["bytes"] == str((tmp_path / "b/anna.png").stat().st_size)


def rows_in(store, place: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(store.cat_file(f"/bucket/{place}").decode())))
