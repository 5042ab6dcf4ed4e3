"""Tests of the augmentation preview."""

from __future__ import annotations

import dataclasses

import numpy as np

from fer_jax.data.augment import OFF
from fer_jax.data.augment_preview import changed, columns_of, draw_grid
from fer_jax.settings import Augmentation

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def test_one_column_per_enabled_change():
    settings = dataclasses.replace(OFF, flip=0.5, erase=0.1)
    columns = columns_of(settings, together=2)
    assert [column[:2] for column in columns] == [
        ("flip", "0.5"), ("erase", "0.1"), ("as trained", "1"), ("as trained", "2"),
    ]  # fmt: skip
    assert columns[0][2] == dataclasses.replace(OFF, flip=1.0)
    assert columns[2][2] == settings


def test_the_grid_shows_originals_and_augmented_images():
    grid = draw_grid(IMAGES, dataclasses.replace(OFF, flip=0.5), seed=0, together=1)
    assert grid.dtype == np.uint8
    shown = grid[38 : 38 + 96 : 6]  # the first row of faces, each pixel once
    original, flipped = shown[:, 4 : 4 + 96 : 6], shown[:, 114 : 114 + 96 : 6]
    np.testing.assert_array_equal(original, IMAGES[0])
    np.testing.assert_array_equal(flipped, IMAGES[0][:, ::-1])


def test_steps_differ_and_are_reproducible():
    first, again, next_one = (changed(IMAGES, Augmentation(), 5, step) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, next_one)
