"""Overlays a heat map on an image."""

from __future__ import annotations

import cv2
import numpy as np

_STRENGTH = 0.55  # opacity at heat 1; keeps the face recognizable


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Blends a heat map into an image, from transparent at 0 to yellow at 1 (inferno).

    Args:
      image: uint8[H, W, 3] RGB.
      heat: float[h, w] in [0, 1]; resized to the image.

    Returns:
      uint8[H, W, 3] RGB.
    """
    height, width = image.shape[:2]
    resized = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    resized = resized.clip(0, 1)
    levels = np.round(resized * 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    opacity = _STRENGTH * np.sqrt(resized)[..., None]
    return np.round(image * (1 - opacity) + colors * opacity).astype(np.uint8)
