"""Image formation: background, occluders, lens blur, tone mapping, sensor noise, rescaling."""

from __future__ import annotations

import cv2
import numpy as np

from tfds_builders.synthface.scene import (
    PLAIN,
    Background,
    Occluder,
    Scene,
)

_MIN_RESOLUTION = 24  # pixels
_SHOULDER = 1.35  # of the tone curve: higher values compress highlights earlier
_GAMMA = 2.2


def render_background(background: Background, rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns the background as float32[size, size, 3], linear RGB."""
    if background.kind == PLAIN:
        down, right = np.mgrid[0:size, 0:size].astype(np.float32) / size
        light = 1 - 0.25 * (down - 0.3) + 0.1 * (right - 0.5)
        return (background.color * light[..., None]).astype(np.float32)
    cells = int(rng.integers(3, 14))
    brightness = rng.normal(0, 0.45, (cells, cells, 1))
    hue = rng.normal(0, 0.15, (cells, cells, 3))
    blobs = np.clip(background.color * np.exp(brightness + hue), 0.005, 1.2).astype(np.float32)
    sharpness = cv2.INTER_CUBIC if rng.random() < 0.6 else cv2.INTER_NEAREST
    large = cv2.resize(blobs, (size, size), interpolation=sharpness)
    return cv2.GaussianBlur(large, (0, 0), size * rng.uniform(0.01, 0.05))


def occlude(light: np.ndarray, occluder: Occluder) -> None:
    """Composites an out-of-focus occluder over `light` float32[S, S, 3], in place."""
    size = len(light)
    share = np.zeros((size, size), np.float32)
    center, axes = ((size * part).astype(int).tolist() for part in (occluder.center, occluder.axes))
    cv2.ellipse(share, center, axes, occluder.angle, 0, 360, 1.0, cv2.FILLED)
    soft = np.asarray(cv2.GaussianBlur(share, (0, 0), size * 0.015))[..., None]
    light += (occluder.color.astype(np.float32) - light) * soft


def _lower_resolution(image: np.ndarray, factor: float) -> np.ndarray:
    size = len(image)
    small = max(_MIN_RESOLUTION, int(size * factor))
    reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (size, size), interpolation=cv2.INTER_CUBIC)


def to_image(light: np.ndarray, scene: Scene, rng: np.random.Generator, size: int) -> np.ndarray:
    """Converts linear RGB float32[S, S, 3] to a gamma-encoded image uint8[size, size, 3]."""
    exposed = np.clip(light * np.float32(2**scene.exposure), 0, 4)
    image = cv2.resize(exposed, (size, size), interpolation=cv2.INTER_AREA)
    if scene.blur > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur * size / 256)
    image = np.clip(1 - np.exp(-_SHOULDER * image), 0, 1) ** (1 / _GAMMA)
    if scene.resolution < 1:
        image = _lower_resolution(image, scene.resolution)
    if scene.saturation != 1 or scene.contrast != 1:
        gray = image.mean(2, keepdims=True)
        image = gray + (image - gray) * scene.saturation
        image = 0.45 + (image - 0.45) * scene.contrast
    image = image + rng.normal(0, scene.noise, image.shape)
    image += rng.normal(0, scene.noise * 0.6, image.shape[:2])[..., None]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
