"""PNG encoding of images, for files and TensorBoard."""

from __future__ import annotations

import cv2
import numpy as np


def encode(image: np.ndarray) -> bytes:
    """Encodes uint8[H, W, C] as PNG: RGB if C is 3, gray if C is 1."""
    image = np.ascontiguousarray(image)
    if image.shape[-1] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()
