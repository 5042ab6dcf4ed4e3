"""Images of the loading and augmentation tasks, generated from a fixed seed."""

from __future__ import annotations

import cv2
import numpy as np

COUNT = 2048
QUALITY = 90


def encoded(size: int) -> list[bytes]:
    """Returns `COUNT` JPEG files of smooth colors with some noise, compressible like faces."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(COUNT):
        coarse = rng.integers(0, 256, (12, 12, 3), np.uint8)
        smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        noisy = (smooth + rng.integers(-6, 7, smooth.shape, np.int16)).clip(0, 255)
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        files.append(cv2.imencode(".jpg", noisy.astype(np.uint8), options)[1].tobytes())
    return files


def decode(file: bytes) -> np.ndarray:
    """Returns uint8[S, S, 3], RGB."""
    return np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB))


def decoded(size: int) -> np.ndarray:
    """Returns all images: uint8[COUNT, S, S, 3]."""
    return np.stack([decode(file) for file in encoded(size)])
