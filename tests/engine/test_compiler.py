"""Options of the compiler: taken where XLA knows them, left out where it does not."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from fer_jax.engine import compiler


@pytest.fixture(autouse=True)
def forgotten():
    """Options are asked for anew, here and in the next test."""
    compiler.options.cache_clear()
    yield
    compiler.options.cache_clear()


def test_convolutions_on_cpu_are_not_ynnpacks():
    layer = nn.Conv(64, (3, 3))
    kernel = {"params": {"kernel": jnp.zeros((3, 3, 64, 64)), "bias": jnp.zeros(64)}}
    images = jnp.zeros((4, 56, 56, 64))
    for options, theirs in (({}, True), (compiler.options(), False)):
        program = jax.jit(layer.apply, compiler_options=options).lower(kernel, images).compile()
        assert ("__ynn_fusion" in program.as_text()) == theirs


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compiler, "_CPU", {"xla_no_such_option": ""})
    assert compiler.options() == {}
