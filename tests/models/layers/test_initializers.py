"""Initial values: those that the networks declare, drawn array by array from seed and path."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.layers import initializers
from fer_jax.models.registry import create_model

SIZE = 32
GOLDEN = [[0.05839288, 0.9807298, 0.42372346], [-0.34301794, 0.87491536, -0.6113253]]


def leaves(tree) -> dict[str, np.ndarray]:
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in pairs}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("light_vgg", {}), ("custom_cnn", {"batch_norm": True}), ("vgg16", {})],
)
def test_values_are_distributed_as_the_network_declares(name, settings):
    model = create_model(name, 6, **settings)
    declared = model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
    found, expected = leaves(initializers.draw(declared, 0)), leaves(declared)
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert (found[path].shape, found[path].dtype) == (array.shape, array.dtype), path
        if np.ptp(array) == 0:
            np.testing.assert_array_equal(found[path], array, err_msg=path)
            continue
        limit = np.sqrt(3 * array.var(dtype=np.float64))
        # The mean and the variance of n draws from [-1, 1) deviate by sqrt(1/3n) and sqrt(4/45n).
        scaled, rare = found[path].astype(np.float64) / limit, 6 / np.sqrt(array.size)
        assert np.abs(scaled).max() <= 1 + rare, path
        assert abs(scaled.mean()) < rare, path
        assert scaled.var() == pytest.approx(1 / 3, abs=rare), path


def test_an_array_follows_from_seed_and_path_alone():
    shape = jax.ShapeDtypeStruct((3, 3, 4, 5), jnp.float32)
    draw = lambda seed, *names: leaves(  # noqa: E731
        initializers.draw({name: {"kernel": shape} for name in names}, seed)
    )
    one, more = draw(7, "b"), draw(7, "a", "b", "c")
    np.testing.assert_array_equal(one["['b']['kernel']"], more["['b']['kernel']"])
    arrays = [*more.values(), *draw(8, "b").values(), *draw(-7, "b").values()]
    assert len({array.tobytes() for array in arrays}) == 5


def test_values_are_the_same_everywhere():
    """May change with the way of drawing only: runs of one seed would begin otherwise."""
    shape = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    (found,) = leaves(initializers.draw({"head": {"kernel": shape}}, 0)).values()
    np.testing.assert_allclose(found, GOLDEN, rtol=1e-6)


def test_an_array_of_an_unknown_kind_is_named():
    class Odd(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x * self.param("alpha", nn.initializers.ones, ())

    variables = Odd().init(jax.random.key(0), jnp.zeros(1))
    with pytest.raises(ValueError, match="found params/alpha; add its initial value"):
        initializers.draw(variables, 0)
