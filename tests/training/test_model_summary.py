"""Tests of the model summary: parameters, operations per image, table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from fer_jax.models.registry import create_model
from fer_jax.training.model_summary import summarize


def overview_of(name: str, size: int, **settings):
    model = create_model(name, 6, **settings)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
    )
    return summarize(model, variables, size)


def test_flops_are_two_per_multiplication():
    multiplications = 30 * 30 * 32 * 27 + 28 * 28 * 64 * 288 + 14 * 14 * 64 * 128 + 128 * 6
    found = overview_of("custom_cnn", 32)
    assert found.flops == pytest.approx(2 * multiplications, rel=0.02)  # ReLU, pooling: the rest
    assert str(found) == f"{found.parameters:,} parameters, 0.0339 GFLOP per image"


def test_statistics_are_counted_and_all_arrays_are_listed():
    found = overview_of("custom_cnn", 12, batch_norm=True)
    assert found.statistics == 2 * (32 + 64)
    assert "192 statistics" in str(found)
    names = ["params/conv1/kernel", "params/head1/bias", "batch_stats/bn2/var"]
    assert [name for name in names if name in found.table] == names
    assert f"Total: {found.parameters + found.statistics:,}" in found.table
