"""Initial kernels: Flax's values."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.initializers import glorot_uniform

REFERENCE = nn.initializers.glorot_uniform()


@pytest.mark.parametrize(
    "shape",
    [(3, 3, 3, 8), (1, 7, 128, 160), (10, 7), (100, 512), (2**11, 2**11 + 1)],
)
def test_kernels_are_those_of_flax_bit_for_bit(shape):
    key = jax.random.key(7)
    found, expected = glorot_uniform(key, shape), REFERENCE(key, shape)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_also_inside_a_program_and_in_another_type():
    key, shape = jax.random.key(1), (3, 3, 4, 5)
    inside = jax.jit(lambda key: glorot_uniform(key, shape))(key)
    np.testing.assert_allclose(inside, REFERENCE(key, shape), rtol=1e-6)
    other = jax.eval_shape(lambda: glorot_uniform(key, shape, jnp.bfloat16))
    assert other.dtype == jnp.bfloat16


def test_shapes_of_about_one_size_share_a_program():
    compiled = []

    def note(event: str, _: float, **__: str) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    key = jax.random.key(0)
    glorot_uniform(key, (3, 3, 11, 13))
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        for width in range(14, 24):
            glorot_uniform(key, (3, 3, 11, width))
        assert not compiled
        REFERENCE(key, (3, 3, 11, 14))
        assert compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
