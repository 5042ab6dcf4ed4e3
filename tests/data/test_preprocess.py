"""Pixels to network input."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.data.preprocess import Preprocessing


@pytest.mark.parametrize(
    ("normalize", "expected"), [("unit", [0, 0.2, 1]), ("symmetric", [-1, -0.6, 1])]
)
def test_fixed_ranges(normalize, expected):
    pixels = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 1, 1, 3)
    out = Preprocessing(8, normalize).normalized(pixels)
    np.testing.assert_allclose(out.ravel(), expected, atol=1e-6)


def test_standardize_is_per_image_and_survives_a_flat_one():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
    pictures[1] //= 8
    pictures[2] = 77
    out = np.asarray(Preprocessing(8, "standardize").normalized(jnp.asarray(pictures)))
    np.testing.assert_allclose(out.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out[:2].std((1, 2, 3)), 1, atol=1e-3)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("shape", [(8, 8), (30, 20), (5, 6)])
def test_resize_gives_the_size(shape):
    picture = np.full((*shape, 3), 9, np.uint8)
    out = Preprocessing(8, "unit").framed(picture, (0, 0, 1, 1))
    assert out.shape == (8, 8, 3)
    assert (out == 9).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((8, "imagenet"), "expected one of unit.*'imagenet'"),
        ((0, "unit"), "at least 4 pixels, found 0"),
        ((8, "unit", -0.1), r"data.face_margin in \[0, 2\], found -0.1"),
    ],
)
def test_wrong_values_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(*fields)
