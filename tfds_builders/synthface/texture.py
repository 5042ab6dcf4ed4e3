"""Procedural textures: tileable noise, bilinear sampling, and GLSL-like helpers.

All functions are pure; noise is cached per process.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

NOISE_SIZE = 512
_OCTAVES = ((8, 1.0), (16, 0.6), (32, 0.45), (64, 0.3), (128, 0.25), (256, 0.2))
_ROW = 1024  # cv2.remap needs a 2-D array: samples are reshaped to rows of this length


def smoothstep(start: float, stop: float, x: np.ndarray) -> np.ndarray:
    """GLSL's smoothstep: 0 at `start`, 1 at `stop`, cubic between; `stop` may be below `start`."""
    t = np.clip((x - np.float32(start)) * np.float32(1 / (stop - start)), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """Gaussian of height 1 centered at 0; `width` is the standard deviation."""
    scaled = x / np.asarray(width, np.float32)
    return np.exp(-0.5 * scaled * scaled)


@functools.cache
def noise(seed: int) -> np.ndarray:
    """Returns tileable noise float32[512, 512] with mean 0 and standard deviation 1."""
    rng = np.random.default_rng(seed)
    total = np.zeros((NOISE_SIZE, NOISE_SIZE), np.float32)
    for cells, amplitude in _OCTAVES:
        grid = np.pad(rng.normal(size=(cells, cells)).astype(np.float32), 2, mode="wrap")
        zoom = NOISE_SIZE // cells
        large = cv2.resize(grid, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        inside = slice(2 * zoom, 2 * zoom + NOISE_SIZE)
        total += amplitude * large[inside, inside]
    return ((total - total.mean()) / total.std()).astype(np.float32)


def sample(texture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Samples `texture` [H, W] bilinearly at x, y float[P], modulo 1: float32[P]."""
    height, width = texture.shape
    count = len(x)
    rows = -(-count // _ROW)
    place = np.zeros((2, rows * _ROW), np.float32)
    place[0, :count] = np.mod(x, 1) * (width - 1)
    place[1, :count] = np.mod(y, 1) * (height - 1)
    grid = place.reshape(2, rows, _ROW)
    read = cv2.remap(texture, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return read.reshape(-1)[:count].astype(np.float32, copy=False)


def mix(start: np.ndarray, stop: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolates colors [P, 3] or [3] linearly: share 0 is `start`, 1 is `stop`."""
    share = share[:, None]
    return start * (1 - share) + stop * share
