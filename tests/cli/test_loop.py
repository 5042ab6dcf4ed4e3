"""Tests of the loop in this process: chunks of steps, stopping, resuming, checks."""

from __future__ import annotations

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax.errors import UserError
from fer_jax.models import registry
from fer_jax.runtime import out_of_memory
from fer_jax.training import precision, train
from fer_jax.training.loop import DivergedError, InterruptedRunError, Loop
from tests.cli.test_stages import checkpoint
from tests.tiny_network import Tiny

EPOCH = 35  # steps


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))


@pytest.fixture(scope="module")
def settings(data_dir) -> list[str]:
    off = ("rotation", "zoom", "shift", "brightness", "contrast")
    return [
        "model.name=tiny", "model.dropout=none", f"data.dir={data_dir}", "data.size=8",
        "train.epochs=2", "train.eval_epochs=1", "train.pictures=0",
        "eval.samples=0", "eval.explain=false",
        "train.steps_per_dispatch=3", *(f"augment.{name}=0" for name in off),
    ]  # fmt: skip


def stop_after(monkeypatch, chunks: int) -> None:
    """Sends SIGTERM after the given number of chunks was dispatched."""
    real, left = Loop._dispatch, [chunks]

    def dispatch(loop, first, last):
        real(loop, first, last)
        left[0] -= 1
        if not left[0]:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Loop, "_dispatch", dispatch)


def guarded(monkeypatch) -> None:
    """Refuses implicit transfers between host and devices."""
    real = Loop.run

    def run(loop):
        with jax.transfer_guard("disallow"):
            real(loop)

    monkeypatch.setattr(Loop, "run", run)


def logged(folder, name: str) -> list[int]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row["step"] for row in rows if name in row]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, settings):
    """Returns an uninterrupted run with the transfer guard; three steps are traced."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
        guarded(patch)
        train.train(configuration.load_settings("demo", settings), folder, profile_steps=3)
    return folder


def test_logging_and_validation_happen_between_chunks(whole):
    assert logged(whole, "validation/accuracy") == [36, 70]  # step 35 is inside a chunk
    assert logged(whole, "train/loss") == [21, 36, 42, 60, 70]
    assert json.loads((whole / "run.json").read_text())["engine"]["steps_per_dispatch"] == 3


def test_the_trace_is_where_tensorboard_expects_it(whole):
    (trace,) = (whole / "plugins" / "profile").glob("*/*.xplane.pb")
    assert trace.stat().st_size > 1000


@pytest.mark.parametrize(
    "store",
    ["host", *(pytest.param(store, marks=pytest.mark.slow) for store in ("device", "stream"))],
)
def test_a_stopped_run_ends_bit_identical(settings, whole, tmp_path, monkeypatch, store):
    folder = tmp_path / "run"
    config = configuration.load_settings("demo", [*settings, f"data.store={store}"])
    guarded(monkeypatch)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(InterruptedRunError):
            train.train(config, folder)
    assert checkpoint(folder, 12).step == 12
    folder.rename(tmp_path / "moved")
    train.train(config, tmp_path / "moved")
    expected, found = (checkpoint(place, 70) for place in (whole, tmp_path / "moved"))
    jax.tree.map(np.testing.assert_array_equal, expected.state, found.state)
    assert (tmp_path / "moved" / "metrics.jsonl").read_text() == (
        whole / "metrics.jsonl"
    ).read_text()
    invocations = json.loads((tmp_path / "moved" / "timing.json").read_text())["sittings"]
    assert [(s["first_step"], s["last_step"]) for s in invocations] == [(0, 12), (12, 70)]


def test_a_stopped_run_goes_on_in_the_dtype_that_auto_chose(settings, tmp_path, monkeypatch):
    config = configuration.load_settings("demo", [*settings, "model.dtype=auto", "train.epochs=1"])
    with monkeypatch.context() as patch:  # on another device
        patch.setattr(precision, "is_fast", lambda _: True)
        patch.setattr(precision, "compare", lambda _: (0.001, 0.05))
        stop_after(patch, 4)
        with pytest.raises(InterruptedRunError):
            train.train(config, tmp_path / "run")
    run = train.train(config, tmp_path / "run")
    assert run.settings.model.dtype == "bfloat16"
    assert json.loads((run.folder / "config.json").read_text())["model"]["dtype"] == "bfloat16"
    engine = json.loads((run.folder / "run.json").read_text())["engine"]
    assert engine[precision.RECORD]["gradient"] == 0.05


def test_a_signal_after_the_last_chunk_is_not_swallowed(settings, tmp_path, monkeypatch, capsys):
    config = configuration.load_settings("demo", [*settings, "train.epochs=1"])
    real = Loop._save

    def save(loop):
        real(loop)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_save", save)
        with pytest.raises(InterruptedRunError):
            train.train(config, tmp_path / "run")
    train.train(config, tmp_path / "run")
    assert "training is finished (step 35)" in capsys.readouterr().out


def test_a_run_can_be_extended_but_not_shortened(settings, tmp_path, capsys):
    folder, settings = tmp_path / "run", [*settings, "train.steps_per_dispatch=1"]
    train.train(configuration.load_settings("demo", [*settings, "train.epochs=1"]), folder)
    longer = [*settings, "train.log_steps=10"]
    train.train(configuration.load_settings("demo", longer), folder)
    said = capsys.readouterr().out
    assert "train.epochs was 1 and is 2 from now on" in said
    assert "train.log_steps was 20 and is 10 from now on" in said
    assert "cosine schedule of the longer run" in said
    assert "resuming at step 35 of 70" in said
    assert logged(folder, "validation/accuracy") == [35, 70]
    with pytest.raises(UserError, match=r"train\.epochs: 2 then, 1 now"):
        train.train(configuration.load_settings("demo", [*longer, "train.epochs=1"]), folder)


def test_a_signal_during_the_last_chunk_is_not_swallowed(settings, tmp_path, monkeypatch):
    overrides = [*settings, "train.epochs=1"]
    stop_after(monkeypatch, 12)  # of 12 chunks in 35 steps
    with pytest.raises(InterruptedRunError) as stopped:
        train.train(configuration.load_settings("demo", overrides), tmp_path / "run")
    assert stopped.value.signal == signal.SIGTERM
    assert checkpoint(tmp_path / "run", 35).loop_state["finished"]


@pytest.mark.slow
def test_values_that_are_not_finite_are_not_saved_on_sigterm(settings, tmp_path, monkeypatch):
    overrides = [*settings, "optim.learning_rate=1e38", "optim.warmup=0", "optim.name=sgd"]
    stop_after(monkeypatch, 1)
    with pytest.raises(DivergedError, match=r"at step \d.*no step was saved before"):
        train.train(configuration.load_settings("demo", overrides), tmp_path / "run")
    assert not [path for path in (tmp_path / "run" / "checkpoints").iterdir() if path.is_dir()]
    content = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert len(content["records"]) == 64
    assert content["step"] <= 3


def test_out_of_memory_is_distinguished_from_other_errors(settings):
    config = configuration.load_settings("demo", settings)
    with (
        pytest.raises(UserError, match=r"out of memory .*train.batch_size=32, .*store=host"),
        out_of_memory.advice(config, "device"),
    ):
        jax.block_until_ready(jnp.zeros((1 << 46,), jnp.uint8))
    with pytest.raises(jax.errors.JaxRuntimeError), out_of_memory.advice(config, "host"):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
