"""Draws a grid that shows the augmentation: originals, each change alone, all changes together.

Uses the functions that training uses. Reads and writes no files.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.data.augment import CHANGES, OFF, augment
from fer_jax.data.mixing import mix
from fer_jax.settings import Augmentation

MIN_CELL = 96  # pixels; smaller images are enlarged
GAP, WIDE_GAP = 4, 14
LINE = 15  # height of a line of text, pixels
INK, PAPER = (40, 40, 40), (255, 255, 255)


def columns_of(settings: Augmentation, together: int) -> list[tuple[str, str, Augmentation]]:
    """Returns title, value and settings of each column: each enabled change, then all of them."""
    alone = [
        (name, f"{getattr(settings, name):g}", _only(settings, name))
        for name in CHANGES
        if getattr(settings, name)
    ]
    return alone + [("as trained", f"{number}", settings) for number in range(1, together + 1)]


def _only(settings: Augmentation, name: str) -> Augmentation:
    """Returns settings with one change only, applied to every image if it has a probability."""
    value = 1.0 if name in ("flip", "erase", "mixup", "cutmix") else getattr(settings, name)
    changes: dict[str, Any] = {name: value}
    for field in ("mixup_alpha", "cutmix_alpha"):
        changes[field] = getattr(settings, field)
    return dataclasses.replace(OFF, **changes)


def changed(images: np.ndarray, settings: Augmentation, seed: int, step: int) -> np.ndarray:
    """Augments images uint8[B, H, W, 3] as step `step` of training does; the same shape."""
    key = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))[0]
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(len(images)))
    return np.asarray(_program(settings)(images, keys))


@functools.lru_cache
def _program(settings: Augmentation) -> jax.stages.Wrapped:
    def program(images: jax.Array, keys: jax.Array) -> jax.Array:
        labels = jnp.zeros(images.shape[0], jnp.int32)
        mixed, _ = mix(augment(images, keys, settings), labels, keys, settings)
        return jnp.round(mixed).astype(jnp.uint8)

    return jax.jit(program)


def draw_grid(
    images: np.ndarray, settings: Augmentation, seed: int, together: int = 4
) -> np.ndarray:
    """Returns the grid, uint8[H, W, 3]: one row per image, the original first.

    Args:
      images: uint8[B, S, S, 3], the first images of a batch; they are mixed with each other.
      settings: of the run.
      seed: of the run.
      together: number of columns with all changes, as in steps 0, 1, ...
    """
    columns = columns_of(settings, together)
    shown = [("original", "", images)]
    for index, (name, value, chosen) in enumerate(columns):
        # Different draws per column: otherwise a face would be moved alike in all of them.
        step = int(value) - 1 if name == "as trained" else 1000 + index
        shown.append((name, value, changed(images, chosen, seed, step)))
    parts = []
    for index, (name, value, cells) in enumerate(shown):
        wide = (index and name != shown[index - 1][0] and name == "as trained") or index == 1
        parts.append(_blank(WIDE_GAP if wide else GAP, len(images), images.shape[1]))
        parts.append(_column(name, value, cells))
    parts.append(_blank(GAP, len(images), images.shape[1]))
    return np.concatenate(parts, axis=1)


def _side(size: int) -> int:
    return size * max(1, -(-MIN_CELL // size))


def _blank(width: int, rows: int, size: int) -> np.ndarray:
    height = 2 * LINE + 2 * GAP + rows * (_side(size) + GAP)
    return np.full((height, width, 3), PAPER, np.uint8)


def _column(name: str, value: str, images: np.ndarray) -> np.ndarray:
    side = _side(images.shape[1])
    out = _blank(side, len(images), images.shape[1])
    for number, text in enumerate((name, value)):
        place = (1, GAP + number * LINE + 11)
        cv2.putText(out, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    for row, image in enumerate(images):
        top = 2 * LINE + 2 * GAP + row * (side + GAP)
        # Integer factors without smoothing, which would hide noise and blur.
        out[top : top + side] = cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST)
    return out
