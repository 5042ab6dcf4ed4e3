"""A run at Weights & Biases, offline, and at MLflow, in an SQLite file: what they have stored."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

_BLOCK = 32768

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def wandb_records(content: bytes) -> Iterator[bytes]:
    """Yields the records of a .wandb file: LevelDB's log format after a header of 7 bytes."""
    place, whole = 7, b""
    while place < len(content):
        if (left := _BLOCK - place % _BLOCK) < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


def wandb_history(folder: Path) -> Iterator[dict]:
    """Yields the values of each step that an offline run has stored."""
    from wandb.proto import wandb_internal_pb2

    for data in wandb_records(next(folder.glob("*.wandb")).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            yield {
                one.key or "/".join(one.nested_key): json.loads(one.value_json)
                for one in record.history.item
            }


def test_a_resumed_run_goes_on_at_both_trackers(cli, tiny, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    options = [one for one in tiny if "pictures" not in one and "epochs" not in one]
    options += ["--workdir=run", "--config.trackers=wandb,mlflow", "--config.train.pictures=2"]
    ids = []
    for epochs in (1, 2):
        done = cli.run(*options, f"--config.train.epochs={epochs}")
        assert done.returncode == 0, done.stderr
        assert "goes on without" not in done.stderr
        ids.append(json.loads((cli.folder / "run/trackers.json").read_text()))
    assert ids[0] == ids[1]

    lines = (cli.folder / "run/metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    accuracy = {
        one["step"]: one["validation/accuracy"] for one in metrics if "validation/accuracy" in one
    }
    assert len(accuracy) == 2

    table = sqlite3.connect(cli.folder / "mlflow.db")
    stored = table.execute("select step, value from metrics where key = 'validation/accuracy'")
    assert {step: pytest.approx(value) for step, value in stored} == accuracy
    assert table.execute("select run_uuid, status from runs").fetchall() == [
        (ids[0]["mlflow"], "FINISHED")
    ]
    tested = table.execute("select count(*) from metrics where key = 'test/accuracy'")
    assert tested.fetchone() == (2,)
    params = dict(table.execute("select key, value from params"))
    assert params["model.name"] == "light_vgg"

    images = [*cli.folder.glob("mlruns/**/*.png"), *(cli.folder / "run/wandb").rglob("*.png")]
    assert images == []  # faces of a licensed set are not sent anywhere

    folders = sorted((cli.folder / "run/wandb").glob("offline-run-*"))
    assert {folder.name.split("-")[-1] for folder in folders} == {ids[0]["wandb"]}
    rows = [row for folder in folders for row in wandb_history(folder)]
    found = {
        row["step"]: row["validation/accuracy"] for row in rows if "validation/accuracy" in row
    }
    assert found == pytest.approx(accuracy)
    assert sum("test/accuracy" in row for row in rows) == 2
