"""Packed runs: float16 weights in one file, which is checked when it is read."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.errors import UserError
from fer_jax.runtime import sharding
from fer_jax.training import packed
from fer_jax.training.restore import load_trained
from tests.small_runs import write_run
from tools import ship_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "small")


def test_a_packed_run_predicts_like_the_run(run, tmp_path):
    """With the rounding of float16, and without checkpoints."""
    small = ship_model.pack(run, tmp_path / "packed")
    mesh = sharding.one_device_mesh()
    before, after = load_trained(run, mesh), load_trained(small, mesh)
    assert (after.step, after.averaged) == (before.step, before.averaged)
    for one, other in zip(
        jax.tree.leaves(before.variables), jax.tree.leaves(after.variables), strict=True
    ):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "cannot be read .*restore the file or reinstall"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "differs from what was saved"),
    ],
)
def test_damaged_weights_are_reported(run, tmp_path, spoil, message):
    small = ship_model.pack(run, tmp_path / "packed")
    spoil(small.folder / run_dir.WEIGHTS)
    with pytest.raises(UserError, match=message):
        load_trained(small, sharding.one_device_mesh())


def test_weights_beyond_float16_are_refused(tmp_path):
    content = packed.Packed({"params": {"kernel": np.float32([1e6])}}, 1, False, 0.0)
    with pytest.raises(UserError, match=r"expected weights within 65504, found larger"):
        packed.write(tmp_path, content)
