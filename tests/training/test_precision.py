"""`model.dtype` "auto": what it becomes on which device, and that a run keeps it."""

from __future__ import annotations

import types

import flax.linen as nn
import pytest

from fer_jax import config as configuration
from fer_jax import run_dir
from fer_jax.models import registry
from fer_jax.training import precision
from tests.small_runs import SIZE, write_run

AUTO = configuration.load_settings("demo", (f"data.size={SIZE}", "model.dtype=auto"))


class Dense(nn.Module):
    """One layer that computes in `dtype`."""

    classes: int
    dtype: str = "float32"
    scale_of_bfloat16: float = 1.0

    @nn.compact
    def __call__(self, images, train):
        scale = self.scale_of_bfloat16 if self.dtype == "bfloat16" else 1.0
        flat = images.reshape(len(images), -1)
        return scale * nn.Dense(self.classes, dtype=self.dtype, name="head")(flat)


class Unstable(Dense):
    """Computes something else in bfloat16."""

    scale_of_bfloat16: float = 4.0


@pytest.mark.parametrize(
    ("platform", "capability", "fast"),
    [
        ("cpu", None, False), ("tpu", None, True), ("gpu", "9.0", True), ("gpu", "8.0", True),
        ("gpu", "7.5", False), ("gpu", "12.0", True), ("gpu", "gfx90a", False),
        ("gpu", None, False),
    ],
)  # fmt: skip
def test_tpus_and_gpus_since_ampere_are_fast_in_bfloat16(platform, capability, fast):
    given = {} if capability is None else {"compute_capability": capability}
    assert precision.is_fast(types.SimpleNamespace(platform=platform, **given)) is fast


@pytest.mark.parametrize(
    ("fast", "found", "dtype"),
    [
        (False, None, "float32"),
        (True, (0.001, 0.05), "bfloat16"),
        (True, (0.03, 0.05), "float32"),
        (True, (0.001, 0.6), "float32"),
        (True, (float("nan"), 0.05), "float32"),
    ],
)
def test_bfloat16_needs_a_fast_device_and_a_step_that_agrees(
    tmp_path, monkeypatch, capsys, fast, found, dtype
):
    monkeypatch.setattr(precision, "is_fast", lambda _: fast)
    monkeypatch.setattr(precision, "compare", lambda _: found)
    settings, record = precision.resolve(AUTO, tmp_path)
    assert settings.model.dtype == dtype
    assert ("loss" in record[precision.RECORD]) is fast
    assert f"compute dtype: {dtype} (" in capsys.readouterr().out


def test_the_comparison_sees_a_network_that_computes_otherwise_in_bfloat16(monkeypatch):
    tiny = configuration.load_settings(
        "demo", ("data.size=8", "model.name=tiny", "model.dropout=none", "model.dtype=auto")
    )
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Dense, 4))
    loss, gradient = precision.compare(tiny)
    assert loss < precision.MAX_LOSS_DIFFERENCE
    assert 0 < gradient < precision.MAX_GRADIENT_DIFFERENCE
    monkeypatch.setitem(registry.MODELS, "tiny", registry.Network(Unstable, 4))
    assert precision.compare(tiny)[1] > precision.MAX_GRADIENT_DIFFERENCE


def test_a_run_keeps_its_dtype(tmp_path):
    write_run(tmp_path / "run", overrides=("model.dtype=bfloat16",))
    settings, _ = precision.resolve(AUTO, tmp_path / "run")
    assert settings.model.dtype == "bfloat16"  # although this is a CPU
    assert run_dir.has_settings(tmp_path / "run", AUTO)
    other = configuration.load_settings("demo", (f"data.size={SIZE}",))
    assert not run_dir.has_settings(tmp_path / "run", other)
