"""Tests of augmentation: each change on its own, some against OpenCV."""

from __future__ import annotations

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fer_jax.data import augment as module
from fer_jax.data.augment import CHANGES, OFF, augment
from fer_jax.settings import Augmentation

ROWS = 64


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (ROWS, 24, 24, 3), np.uint8)
    return np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in noise])


def run(images, settings, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(images))
    return np.asarray(jax.jit(lambda x, k: augment(x, k, settings))(images, keys))


def test_disabled_augmentation_changes_nothing(images):
    np.testing.assert_array_equal(run(images, OFF), images.astype(np.float32))


@pytest.mark.parametrize(("probability", "low", "high"), [(0, 0, 0), (0.5, 0.3, 0.7), (1, 1, 1)])
@pytest.mark.parametrize("rotation", [0, 1e-6])  # without and with the warp
def test_flip_mirrors_images_with_its_probability(images, probability, low, high, rotation):
    out = run(images, dataclasses.replace(OFF, flip=probability, rotation=rotation))
    mirrored = [np.abs(o - i[:, ::-1]).max() < 0.1 for o, i in zip(out, images, strict=True)]
    same = [np.abs(o - i).max() < 0.1 for o, i in zip(out, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert low <= np.mean(mirrored) <= high


@pytest.mark.parametrize(
    ("angle", "scale", "shift"),
    [(20, 1, (0, 0)), (0, 1.3, (0, 0)), (0, 1, (0.1, -0.2)), (-15, 0.8, (0.05, 0.1))],
)
def test_warp_agrees_with_opencv(images, angle, scale, shift):
    image = images[0]
    ours = module._warp(
        jnp.asarray(image),
        jnp.asarray(False),
        jnp.deg2rad(float(angle)),
        jnp.asarray(float(scale)),
        jnp.asarray(shift, jnp.float32),
    )
    matrix = cv2.getRotationMatrix2D((11.5, 11.5), angle, scale)
    matrix[:, 2] += matrix[:, :2] @ (np.array(shift[::-1]) * 24)
    theirs = cv2.warpAffine(
        image.astype(np.float32), matrix, (24, 24), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    # OpenCV rounds positions to 1/32 pixel.
    assert np.abs(ours - theirs).max() < 4


@pytest.mark.parametrize("field", ["brightness", "contrast"])
def test_brightness_and_contrast_stay_in_range(images, field):
    soft = (images // 4 + 96).astype(np.uint8)  # far from 0 and 255, to avoid clipping
    out = run(soft, dataclasses.replace(OFF, **{field: 0.2}))
    if field == "brightness":
        ratio = out.mean((1, 2, 3)) / soft.mean((1, 2, 3))
    else:
        ratio = out.std((1, 2, 3)) / soft.std((1, 2, 3))
        np.testing.assert_allclose(out.mean((1, 2, 3)), soft.mean((1, 2, 3)), rtol=1e-4)
    assert 0.8 <= ratio.min() < 0.85
    assert 1.15 < ratio.max() <= 1.2


def test_blur_agrees_with_opencv(images):
    image, draws = jnp.asarray(images[0], jnp.float32), jnp.zeros(module.DRAWS)
    for draw, deviation in ((1.0, 1.2), (-0.4, 0.36)):
        ours = image
        for axis in (0, 1):
            ours = module._blur(ours, draws.at[11].set(draw), 0.05, axis)
        theirs = cv2.GaussianBlur(
            images[0].astype(np.float32), (7, 7), deviation, borderType=cv2.BORDER_REPLICATE
        )
        np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_noise_is_gaussian_and_independent_per_image():
    gray = np.full((ROWS, 24, 24, 3), 128, np.uint8)
    level = 0.04
    out = run(gray, dataclasses.replace(OFF, noise=level)) - 128
    deviations = out.std(axis=(1, 2, 3)) / (level * 255)
    assert deviations.max() <= 1.03
    assert deviations.min() < 0.2
    np.testing.assert_allclose(deviations.mean(), 0.5, atol=0.1)  # uniform in [0, 1]
    strongest = out[deviations.argmax()].ravel() / out[deviations.argmax()].std()
    assert abs(strongest.mean()) < 0.1
    # Excess kurtosis: -0.3 for a sum of four bytes, -1.2 for one uniform number.
    assert -0.6 < (strongest**4).mean() - 3 < 0.3
    assert len({tuple(image[0, :8, 0]) for image in out}) == ROWS
    # Neighboring pixels are uncorrelated.
    assert abs(np.corrcoef(strongest[:-1], strongest[1:])[0, 1]) < 0.1


def test_saturation_changes_colors_but_not_gray(images):
    gray = np.repeat(images[..., :1], 3, axis=-1)
    settings = dataclasses.replace(OFF, saturation=0.5)
    np.testing.assert_allclose(run(gray, settings), gray, atol=1e-3)
    soft = (images // 4 + 96).astype(np.uint8)
    share = (run(soft, settings).std(axis=-1) / soft.std(axis=-1).clip(0.5)).mean(axis=(1, 2))
    assert share.max() - share.min() > 0.5
    luma = lambda x: x @ np.array(module.GRAY)  # noqa: E731
    np.testing.assert_allclose(luma(run(soft, settings)), luma(soft), atol=0.1)


def test_tint_scales_each_channel_independently(images):
    soft = (images // 4 + 96).astype(np.float32)
    gains = (run(soft.astype(np.uint8), dataclasses.replace(OFF, tint=0.1)) / soft).mean((1, 2))
    assert gains.min() > 0.899
    assert gains.max() < 1.101
    assert (np.ptp(gains, axis=1) > 0.01).mean() > 0.9


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_erasing_fills_a_rectangle(images, probability):
    out = run(images, dataclasses.replace(OFF, erase=probability))
    areas = []
    for before, after in zip(images.astype(np.float32), out, strict=True):
        painted = (np.abs(after - before.mean()) < 1e-3).all(axis=-1)
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        areas.append(painted.mean())
        if painted.sum() > 2:
            assert painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            np.testing.assert_array_equal(after[~painted], before[~painted])
    erased = np.array(areas) > 0.005
    assert abs(erased.mean() - probability) < 0.2
    assert max(areas) < 0.33  # a quarter, plus rounding to pixels
    assert min(np.array(areas)[erased]) > 0.005


@pytest.mark.parametrize("name", CHANGES[:-2])
def test_augmentation_depends_on_the_key_only(images, name):
    value = 10.0 if name == "rotation" else 0.3
    settings = dataclasses.replace(OFF, **{name: value})
    keys = jax.random.split(jax.random.key(3), ROWS)
    program = jax.jit(lambda x, k: augment(x, k, settings))
    whole = np.asarray(program(images, keys))
    order = np.random.default_rng(1).permutation(ROWS)
    np.testing.assert_array_equal(whole[order], program(images[order], keys[order]))
    assert whole.min() >= 0
    assert whole.max() <= 255
    assert not np.array_equal(whole, images)


def test_two_devices_augment_like_one(images):
    settings = Augmentation(erase=0.3, tint=0.1)
    keys = jax.random.split(jax.random.key(3), ROWS)
    one = run(images, settings, seed=3)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    split = jax.jit(
        lambda x, k: augment(x, k, settings),
        out_shardings=spread,
    )(jax.device_put(images, spread), jax.device_put(keys, spread))
    np.testing.assert_allclose(split, one, atol=1e-3)
