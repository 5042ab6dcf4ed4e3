"""Tests of compiler options: set if XLA knows them, else omitted."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from fer_jax.models import registry
from fer_jax.runtime import xla_options


@pytest.fixture
def forgotten():
    """Clears the cached list of known options before and after a test."""
    xla_options._are_known.cache_clear()
    yield
    xla_options._are_known.cache_clear()


def test_convolutions_on_cpu_do_not_use_ynnpack():
    layer = nn.Conv(64, (3, 3))
    kernel = {"params": {"kernel": jnp.zeros((3, 3, 64, 64)), "bias": jnp.zeros(64)}}
    images = jnp.zeros((4, 56, 56, 64))
    for options, theirs in (({}, True), (xla_options.for_model(), False)):
        program = jax.jit(layer.apply, compiler_options=options).lower(kernel, images).compile()
        assert ("__ynn_fusion" in program.as_text()) == theirs


@pytest.mark.parametrize(
    ("network", "settings", "theirs"),
    [
        ("custom_cnn", {}, True),
        ("inception_resnet_v2", {}, False),
        ("inception_resnet_v2", {"dtype": "float32"}, False),  # as a string, as in configs
        ("inception_resnet_v2", {"dtype": "bfloat16"}, True),
        ("inception_resnet_v2", {"dtype": jnp.bfloat16}, True),
        ("resnet50", {}, False),
    ],
)
def test_matmuls_use_ynnpack_without_shared_blocks_or_in_bfloat16(network, settings, theirs):
    options = xla_options.for_model(registry.create_model(network, 7, **settings))
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2500, 384), (384, 128))]
    program = jax.jit(jnp.matmul, compiler_options=options).lower(*shapes).compile()
    assert ("__ynn_fusion" in program.as_text()) == theirs


@pytest.mark.usefixtures("forgotten")
def test_unknown_options_are_omitted(monkeypatch):
    monkeypatch.setattr(xla_options, "_NONE", {"xla_no_such_option": ""})
    assert xla_options.for_model() == {}
