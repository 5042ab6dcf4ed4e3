"""A picture of what augmentation does: originals beside each change alone and all together.

The draws are those of training. Files and data sets are the verb's matter.
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.data.augment import CHANGES, OFF, augment
from fer_jax.data.mixing import mix
from fer_jax.settings import Augmentation

LEAST_CELL = 96  # pixels: smaller pictures are enlarged
GAP, WIDE_GAP = 4, 14
LINE = 15  # pixels of a line of text
INK, PAPER = (40, 40, 40), (255, 255, 255)
LEFT_OUT = ("mixup_alpha", "cutmix_alpha")


def columns_of(settings: Augmentation, together: int) -> list[tuple[str, str, Augmentation]]:
    """Heading, value and settings of each column: changes that are on, then all of them."""
    alone = [
        (name, f"{getattr(settings, name):g}", _only(settings, name))
        for name in CHANGES
        if getattr(settings, name)
    ]
    return alone + [("as trained", f"{number}", settings) for number in range(1, together + 1)]


def _only(settings: Augmentation, name: str) -> Augmentation:
    """One change alone; one that has a probability always happens, so that it is seen."""
    value = 1.0 if name in ("flip", "erase", "mixup", "cutmix") else getattr(settings, name)
    alphas = {field: getattr(settings, field) for field in LEFT_OUT}
    return dataclasses.replace(OFF, **alphas, **{name: value})


def changed(images: np.ndarray, settings: Augmentation, seed: int, step: int) -> np.ndarray:
    """uint8[B, H, W, 3]: the images uint8[B, H, W, 3] as step `step` of training changes them."""
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
    """The grid, uint8[H, W, 3]: a row per image, the original first.

    Args:
      images: uint8[B, S, S, 3], the beginning of a batch; mixing takes place among them.
      settings: of the training.
      seed: of the training.
      together: columns with all changes, of the steps 0, 1, ...
    """
    columns = columns_of(settings, together)
    shown = [("original", "", images)]
    for index, (name, value, chosen) in enumerate(columns):
        # Each change with draws of its own, or a face would lean and move alike in all columns.
        step = int(value) - 1 if name == "as trained" else 1000 + index
        shown.append((name, value, changed(images, chosen, seed, step)))
    parts = []
    for index, (name, value, pictures) in enumerate(shown):
        wide = (index and name != shown[index - 1][0] and name == "as trained") or index == 1
        parts.append(_blank(WIDE_GAP if wide else GAP, len(images), images.shape[1]))
        parts.append(_column(name, value, pictures))
    parts.append(_blank(GAP, len(images), images.shape[1]))
    return np.concatenate(parts, axis=1)


def _side(size: int) -> int:
    return size * max(1, -(-LEAST_CELL // size))


def _blank(width: int, rows: int, size: int) -> np.ndarray:
    height = 2 * LINE + 2 * GAP + rows * (_side(size) + GAP)
    return np.full((height, width, 3), PAPER, np.uint8)


def _column(name: str, value: str, pictures: np.ndarray) -> np.ndarray:
    side = _side(pictures.shape[1])
    out = _blank(side, len(pictures), pictures.shape[1])
    for number, text in enumerate((name, value)):
        place = (1, GAP + number * LINE + 11)
        cv2.putText(out, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    for row, picture in enumerate(pictures):
        top = 2 * LINE + 2 * GAP + row * (side + GAP)
        # Whole multiples and no smoothing: noise and blur are what is looked at.
        out[top : top + side] = cv2.resize(picture, (side, side), interpolation=cv2.INTER_NEAREST)
    return out
