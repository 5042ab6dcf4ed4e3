"""Tests of the norm of a tree of small arrays, which are concatenated, and large ones."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fer_jax.runtime import sharding
from fer_jax.training.metrics import norm

LARGE = sharding.MIN_SPLIT_BYTES // 4  # size of the smallest array that is not concatenated


@pytest.mark.parametrize(
    "shapes",
    [
        [()],
        [(3,), (2, 5)],
        [(LARGE,)],
        [(LARGE - 1,), (2, LARGE), (7,)],
        [(4099, 1031), (9,)],
    ],
    ids=["scalar", "small", "large", "both", "odd"],
)
def test_the_norm_is_over_all_values(shapes):
    rng = np.random.default_rng(0)
    tree = {f"array {index}": rng.random(shape, np.float32) for index, shape in enumerate(shapes)}
    numbers = np.concatenate([array.ravel() for array in tree.values()]).astype(np.float64)
    assert float(jax.jit(norm)(tree)) == pytest.approx(np.linalg.norm(numbers), rel=1e-6)
