"""Further heads from a set's files to report, prediction and exported file."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.export import export_run, run_exported
from fer_jax.inference.model import Model
from fer_jax.models import registry
from tests import commands
from tests.tiny_network import Tiny
from tfds_builders.stand_ins import write as stand_in

FLAGS = [
    f"--config.{field}"
    for field in (
        "model.name=tiny", "model.dropout=none", "model.pretrained=none", "data.size=8",
        "augment.flip=0.5", "train.epochs=4st", "train.eval_epochs=2st", "train.batch_size=16",
        "train.head_epochs=0", "train.pictures=0",
        "eval.batch_size=32", "eval.samples=0", "eval.explain=false", "eval.tta=flip",
    )
]  # fmt: skip


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "protocol", "scale", "head", "monitor", "outputs"),
    [
        ("amfed_plus", "video_units", 0.02, "units", "units_f1", "AU12L"),
        ("affectnet", "official", 0.0001, "valence_arousal", "ccc", "valence"),
    ],
)
def test_from_files_to_an_exported_file(tmp_path, name, protocol, scale, head, monitor, outputs):
    manual_dir = stand_in.write(name, tmp_path / "files", scale)
    data = [f"--config.data.dir={tmp_path}", f"--config.data.manual_dir={manual_dir}"]
    heads = [
        f"--config.data.protocol={protocol}",
        f"--config.model.heads={head}", f"--config.train.monitor={monitor}",
    ]  # fmt: skip
    commands.run(
        "train", f"--config={name}", f"--workdir={tmp_path / 'run'}", *data, *heads, *FLAGS
    )
    run = run_dir.open_run(tmp_path / "run")
    assert outputs in run.heads.names
    report = json.loads((run.report / "report.json").read_text())["heads"]
    assert set(report) == {head, "method"}
    assert report[head]["each"][outputs]["count"] > 0
    last = json.loads(run.metrics.read_text().splitlines()[-1])
    assert f"validation/{monitor}" in last
    model, image = Model(run), np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    (prediction,) = model.predict(image, faces="whole")
    (face,) = prediction.faces
    assert tuple(face.further) == run.heads.columns
    out = tmp_path / "export" / "run.onnx"
    export_run.export(run, "onnx", "float32", out, export_run.noise_samples(run))
    cv2.imwrite(str(tmp_path / "face.png"), image[..., ::-1])
    options = run_exported.parse([str(out), str(tmp_path / "face.png"), "--faces", "whole"])
    (found,) = run_exported.predict(*run_exported.load(str(out)), options)
    expected = face.to_json()
    assert found.keys() == {"source", *expected}
    for key in {"units", "valence", "arousal"} & expected.keys():
        assert found[key] == pytest.approx(expected[key], abs=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["model.heads=valence_arousal"], "stores valence and arousal .*found synthetic_faces"),
        (["model.heads=faces"], "expected one of units, valence_arousal for model.heads"),
        (["train.monitor=ccc"], "expected valence_arousal among model.heads"),
    ],
)
def test_a_head_without_labels_is_refused(data_dir, tmp_path, capsys, flags, message):
    arguments = ["--config=demo", f"--workdir={tmp_path / 'run'}", f"--config.data.dir={data_dir}"]
    flags = [f"--config.{flag}" for flag in flags]
    with pytest.raises(SystemExit, match="2"):
        commands.run("train", *arguments, *FLAGS, *flags)
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))
    assert not (tmp_path / "run" / "run.json").exists()
