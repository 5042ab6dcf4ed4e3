"""Pictures as PNG bytes, for files and for TensorBoard. Drawing is in `plots`."""

from __future__ import annotations

import cv2
import numpy as np


def encode(picture: np.ndarray) -> bytes:
    """PNG bytes of uint8[H, W, C]: RGB where C is 3, grey where it is 1."""
    picture = np.ascontiguousarray(picture)
    if picture.shape[-1] == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", picture)[1].tobytes()
