"""Writers: what TensorBoard and readers of JSON lines see, also after a restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import backend_context, plugin_data_pb2
from tensorboard.util import tensor_util

from fer_jax.errors import UserError
from fer_jax.monitor.jsonl import JsonLinesWriter
from fer_jax.monitor.tensorboard import TensorBoardWriter
from fer_jax.monitor.writers import MultiWriter


def read(folder) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def tensors(folder, tag):
    return {event.step: tensor_util.make_ndarray(event.tensor_proto)
            for event in read(folder).Tensors(tag)}  # fmt: skip


def test_tensorboard_reads_every_kind(tmp_path):
    writer = TensorBoardWriter(tmp_path, continues_at=0)
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), np.uint8)
    writer.write_scalars(3, {"train/loss": 0.5, "train/accuracy": np.float32(0.25)})
    writer.write_images(4, {"faces": images})
    writer.write_texts(5, {"note": "**bold**"})
    writer.write_hparams(
        {"optim.learning_rate": 1e-3, "data.name": "kdef", "unset": None, "t": (1,)}, "demo"
    )
    writer.close()

    assert tensors(tmp_path, "train/loss") == {3: 0.5}
    assert tensors(tmp_path, "train/accuracy") == {3: 0.25}
    width, height, *encoded = tensors(tmp_path, "faces")[4]
    assert (width, height) == (b"4", b"6")
    decoded = [cv2.imdecode(np.frombuffer(png, np.uint8), 1)[..., ::-1] for png in encoded]
    np.testing.assert_array_equal(decoded, images)
    assert tensors(tmp_path, "note")[5].item() == b"**bold**"
    metadata = read(tmp_path).SummaryMetadata("_hparams_/session_start_info")
    content = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    assert content.session_start_info.group_name == "demo"  # "Trial ID" of the page
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
@pytest.mark.parametrize(("first_step", "steps"), [(0, []), (2, [1, 2]), (9, [1, 2, 3])])
def test_json_lines_resume_after_the_step(tmp_path, first_step, steps, tail):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 3}) for step in (1, 2, 3)]
    path.write_text("\n".join(lines) + "\n" + tail)
    writer = JsonLinesWriter(path, first_step)
    writer.write_scalars(10, {"loss": np.float32(0.5)})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    writer.close()
    assert rows == [{"step": step, "loss": step / 3} for step in steps] + [
        {"step": 10, "loss": 0.5}
    ]


def test_a_multi_writer_forwards_to_every_writer(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    with MultiWriter([JsonLinesWriter(path) for path in paths]) as writer:
        writer.write_scalars(1, {"x": 1})
        writer.flush()
        assert [path.read_text() for path in paths] == ['{"step": 1, "x": 1.0}\n'] * 2


@pytest.mark.parametrize("invocations", [1, 2, 3])
def test_other_readers_find_each_scalar_once(tmp_path, invocations):
    writers = [TensorBoardWriter(tmp_path, continues_at=2 * n) for n in range(invocations)]
    for invocation, writer in enumerate(writers):
        for step in range(
            2 * invocation + 1, 2 * invocation + 5
        ):  # two of them past the checkpoint
            writer.write_scalars(step, {"loss": step + invocation / 8})
            writer.write_images(step, {"face": np.full((4, 4, 3), step, np.uint8)})
        writer.flush()  # never closed, as in a killed process
    accumulator = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    scalars = [(event.step, event.value) for event in accumulator.Scalars("loss")]
    last = invocations - 1
    assert scalars == [
        (step, step + min((step - 1) // 2, last) / 8) for step in range(1, 2 * last + 5)
    ]
    assert sorted(tensors(tmp_path, "face")) == list(range(1, 2 * last + 5))
    assert len(read(tmp_path).Tensors("face")) == 2 * last + 4
    for writer in writers:
        writer.close()


def test_event_files_sort_in_the_order_of_writing(tmp_path, monkeypatch):
    TensorBoardWriter(tmp_path).close()
    TensorBoardWriter(tmp_path).close()  # in the same second
    monkeypatch.setattr(time, "time", lambda: 1000.0)  # a clock that was set back
    TensorBoardWriter(tmp_path).close()
    by_age = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(by_age) == 3
    assert by_age == sorted(by_age)


def test_a_truncated_event_file_loses_only_its_last_record(tmp_path):
    writer = TensorBoardWriter(tmp_path, continues_at=0)
    for step in (1, 2, 3):
        writer.write_scalars(step, {"loss": step})
    writer.close()
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 3)
    assert tensors(tmp_path, "loss") == {1: 1, 2: 2}


def test_the_hparams_page_shows_hyperparameters_and_metrics(tmp_path):
    for name, rate in (("a", 1e-3), ("b", 3e-4)):
        writer = TensorBoardWriter(tmp_path / name, continues_at=0)
        writer.write_hparams({"optim.learning_rate": rate, "model.name": "light_vgg"}, trial=name)
        writer.write_scalars(5, {"test/accuracy": 0.5})
        writer.close()
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    request = RequestContext()
    context = backend_context.Context(types.SimpleNamespace(data_provider=provider))
    metadata = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(
        request, "", include_metrics=True, hparams_run_to_tag_to_content=metadata,
        data_provider_hparams=[],
    )  # fmt: skip
    assert {info.name for info in experiment.hparam_infos} == {"optim.learning_rate", "model.name"}
    assert {info.name.tag for info in experiment.metric_infos} == {"test/accuracy"}


def test_json_numbers_are_short_and_valid(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JsonLinesWriter(path)
    values = {"a": np.float32(0.1), "b": np.array(1 / 3), "c": 2, "d": np.nan, "e": -np.inf}
    writer.write_scalars(np.int64(7), values)
    writer.close()
    assert path.read_text() == (
        '{"step": 7, "a": 0.1, "b": 0.3333333333333333, "c": 2.0, "d": null, "e": null}\n'
    )


@pytest.mark.parametrize(
    "make", [lambda folder: TensorBoardWriter(folder), lambda folder: JsonLinesWriter(folder / "m")]
)
def test_an_unwritable_folder_is_reported(tmp_path, make):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected to write"):
        make(tmp_path / "file" / "run")


def write_and_flush(writer):
    writer.write_scalars(1, {"loss": 1.0})
    writer.flush()


@pytest.mark.parametrize(
    "make", [lambda folder: TensorBoardWriter(folder), lambda folder: JsonLinesWriter(folder / "m")]
)
def test_a_full_disk_is_reported(tmp_path, make):
    writer = make(tmp_path)
    with open("/dev/full", "wb") as full, open("/dev/null", "wb") as empty:
        os.dup2(full.fileno(), writer._file.fileno())
        with pytest.raises(UserError, match="No space left"):
            write_and_flush(writer)
        os.dup2(empty.fileno(), writer._file.fileno())
        writer._file.close()


def test_an_installed_tensorflow_is_not_imported(tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('imported')")
    code = (
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from fer_jax.monitor.tensorboard import TensorBoardWriter\n"
        f"writer = TensorBoardWriter(Path({str(tmp_path / 'run')!r}), continues_at=0)\n"
        "writer.write_scalars(1, {'a': 1})\n"
        "writer.write_images(1, {'b': np.zeros((1, 2, 2, 3), np.uint8)})\n"
        "writer.write_texts(1, {'c': 'text'})\n"
        "writer.write_hparams({'e': 1}, 'run')\n"
        "writer.close()\n"
    )
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.getcwd()]))
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, check=False
    )
    assert done.returncode == 0
