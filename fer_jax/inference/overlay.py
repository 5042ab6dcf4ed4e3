"""Draws a map of places over the picture that it explains."""

from __future__ import annotations

import cv2
import numpy as np

_STRENGTH = 0.55  # of the colour where the map is 1: the face stays recognisable below


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colours a picture by a map, dark violet to yellow; where the map is 0 it stays as it is.

    Args:
      image: uint8[H, W, 3] RGB.
      heat: float[h, w] in [0, 1]; stretched over the picture.

    Returns:
      uint8[H, W, 3] RGB.
    """
    height, width = image.shape[:2]
    stretched = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    stretched = stretched.clip(0, 1)
    levels = np.round(stretched * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    share = _STRENGTH * np.sqrt(stretched)[..., None]
    return np.round(image * (1 - share) + colours * share).astype(np.uint8)
