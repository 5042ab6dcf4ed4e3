"""Writers: what TensorBoard's own reader and a reader of JSON lines find, also after a restart."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from fer_jax.engine.writers import JsonLinesWriter, MultiWriter, TensorBoardWriter


def read(folder) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def tensors(folder, tag):
    return {event.step: tensor_util.make_ndarray(event.tensor_proto)
            for event in read(folder).Tensors(tag)}  # fmt: skip


def test_tensorboard_reads_every_kind(tmp_path):
    writer = TensorBoardWriter(tmp_path, continues_at=0)
    picture = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), np.uint8)
    writer.write_scalars(3, {"train/loss": 0.5, "train/accuracy": np.float32(0.25)})
    writer.write_images(4, {"faces": picture})
    writer.write_texts(5, {"note": "**bold**"})
    writer.write_histograms(6, {"weights": np.arange(12.0).reshape(3, 4)})
    writer.write_hparams(
        {"optim.learning_rate": 1e-3, "data.name": "kdef", "unset": None, "t": (1,)}
    )
    writer.close()

    assert tensors(tmp_path, "train/loss") == {3: 0.5}
    assert tensors(tmp_path, "train/accuracy") == {3: 0.25}
    width, height, *encoded = tensors(tmp_path, "faces")[4]
    assert (width, height) == (b"4", b"6")
    decoded = [cv2.imdecode(np.frombuffer(png, np.uint8), 1)[..., ::-1] for png in encoded]
    np.testing.assert_array_equal(decoded, picture)
    assert tensors(tmp_path, "note")[5].item() == b"**bold**"
    assert tensors(tmp_path, "weights")[6][:, 2].sum() == 12
    metadata = read(tmp_path).SummaryMetadata("_hparams_/session_start_info")
    content = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    values = content.session_start_info.hparams
    assert values["optim.learning_rate"].number_value == 1e-3
    assert values["data.name"].string_value == "kdef"
    assert values["t"].string_value == "(1,)"
    assert "unset" not in values


def test_a_continued_run_shows_no_step_twice(tmp_path):
    first = TensorBoardWriter(tmp_path, continues_at=0)
    for step in (1, 2, 3):
        first.write_scalars(step, {"loss": step})
    first.close()
    second = TensorBoardWriter(tmp_path, continues_at=2)
    second.write_scalars(3, {"loss": 30})
    second.close()
    added = TensorBoardWriter(tmp_path)  # an evaluation of an earlier step drops nothing
    added.write_scalars(1, {"test/accuracy": 0.5})
    added.close()
    assert [event.step for event in read(tmp_path).Tensors("loss")] == [1, 2, 3]
    assert tensors(tmp_path, "loss") == {1: 1, 2: 2, 3: 30}
    assert tensors(tmp_path, "test/accuracy") == {1: 0.5}


@pytest.mark.parametrize("tail", ["", '{"step": 4, "lo', "\n"])
@pytest.mark.parametrize(("first_step", "kept"), [(0, []), (2, [1, 2]), (9, [1, 2, 3])])
def test_json_lines_continue_behind_the_step(tmp_path, first_step, kept, tail):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 3}) for step in (1, 2, 3)]
    path.write_text("\n".join(lines) + "\n" + tail)
    writer = JsonLinesWriter(path, first_step)
    writer.write_scalars(10, {"loss": np.float32(0.5)})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    writer.close()
    assert rows == [{"step": step, "loss": step / 3} for step in kept] + [{"step": 10, "loss": 0.5}]


def test_several_writers_get_the_same(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    with MultiWriter([JsonLinesWriter(path) for path in paths]) as writer:
        writer.write_scalars(1, {"x": 1})
        writer.flush()
        assert [path.read_text() for path in paths] == ['{"step": 1, "x": 1.0}\n'] * 2


def test_tensorflow_is_not_looked_for():
    # With TensorFlow installed, TensorBoard would import it for its file system.
    code = (
        "import fer_jax.engine.writers, sys, tempfile\n"
        "from pathlib import Path\n"
        "fer_jax.engine.writers.TensorBoardWriter(Path(tempfile.mkdtemp())).close()\n"
        "from tensorboard.compat import tf\n"
        "assert 'stub' in tf.io.gfile.__name__, tf.io.gfile\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
