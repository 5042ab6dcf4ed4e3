"""Aligns a face: a similarity transform puts five landmarks at fixed points.

The points are insightface's, for which ArcFace networks are trained.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

Landmarks = np.ndarray
"""float[5, 2], x and y in pixels: left eye, right eye, nose tip, left and right mouth corner.

Left is the left of the image. The order of insightface, YuNet and RAF-DB.
"""

# The five points in an aligned face of 112 pixels: insightface's arcface_src
# (deepinsight/insightface, python-package/insightface/utils/face_align.py).
_ALIGNED_SIDE = 112
_ALIGNED = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip


def alignment(landmarks: Landmarks, side: int) -> np.ndarray:
    """Computes the similarity transform that aligns five landmarks.

    Least squares over rotation, one scale and translation (Umeyama, 1991).

    Args:
      landmarks: float[5, 2], pixels of the image.
      side: side of the aligned face in pixels; the reference points scale from 112.

    Returns:
      float64[2, 3], image to aligned face, for `cv2.warpAffine`.

    Raises:
      ValueError: All landmarks coincide.
    """
    source = np.asarray(landmarks, np.float64)
    target = (_ALIGNED + 0.5) * (side / _ALIGNED_SIDE) - 0.5  # pixel centers, as in a resize
    # With points as complex numbers, a similarity without reflection is a factor and a shift.
    start, end = (points @ np.array([1.0, 1.0j]) for points in (source, target))
    centered = start - start.mean()
    spread = float((np.abs(centered) ** 2).sum())
    if spread == 0.0:
        raise ValueError("expected five distinct landmarks, found all of them at one point")
    factor = complex((centered.conj() * (end - end.mean())).sum() / spread)
    shift = end.mean() - factor * start.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def aligned_landmarks(landmarks: Landmarks, side: int) -> np.ndarray:
    """Returns the landmarks of the aligned face as shares of its side, float32[5, 2]."""
    matrix = alignment(landmarks, side)
    moved = np.asarray(landmarks, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return ((moved + 0.5) / side).astype(np.float32)


def are_distinct(landmarks: Any) -> bool:
    """Whether landmarks span an area: some label files have zeros for missing ones."""
    points = np.asarray(landmarks, np.float64)
    return bool(np.isfinite(points).all() and np.ptp(points, axis=0).min() >= 2.0)


def align(image: np.ndarray, landmarks: Landmarks, side: int) -> np.ndarray:
    """Warps the face of `image` (uint8[H, W, 3]) to uint8[side, side, 3] with level eyes.

    Pixels outside the image repeat its edge.
    """
    matrix = alignment(landmarks, side)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:  # a warp only samples: average a large face first, to prevent aliasing
        smaller = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        factors = np.array([smaller.shape[1] / image.shape[1], smaller.shape[0] / image.shape[0]])
        image, landmarks = smaller, (np.asarray(landmarks) + 0.5) * factors - 0.5
        matrix = alignment(landmarks, side)
    return cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
