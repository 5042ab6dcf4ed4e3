"""Glasses: two rims, a bridge and temples, composited as lines over the shaded image."""

from __future__ import annotations

import cv2
import numpy as np

from tfds_builders.synthface.geometry import NeutralHead, View, project
from tfds_builders.synthface.head import LEFT_EYE, RIGHT_EYE, HeadModel
from tfds_builders.synthface.scene import Scene
from tfds_builders.synthface.surface import Points

# In units of half the interpupillary distance.
_RIM_WIDE, _RIM_HIGH, _RIM_DROP = 0.82, 0.62, -0.08
_FORWARD = 0.62  # in front of the eye centers
_TEMPLE_OUT, _TEMPLE_BACK = 2.45, 3.9  # where the temples reach the ears
_SQUARE = 3.2  # exponent of the superellipse of a rim: 2 is an ellipse
_THICK = 0.035  # line width, decimeters
_BEHIND = 0.12  # depth tolerance, decimeters: lines further behind the surface are hidden
_LENS = 0.06  # reflectance of the lenses


def _outlines() -> list[np.ndarray]:
    """Polylines float[N, 3] around the midpoint of the eyes, in half interpupillary distances."""
    turn = np.linspace(0, 2 * np.pi, 41)
    cosine, sine = np.cos(turn), np.sin(turn)
    x = _RIM_WIDE * np.sign(cosine) * np.abs(cosine) ** (2 / _SQUARE)
    y = _RIM_HIGH * np.sign(sine) * np.abs(sine) ** (2 / _SQUARE) + _RIM_DROP
    lines = []
    for side in (-1, 1):
        # Frames curve around the face.
        lines.append(np.stack([side + x, y, _FORWARD - 0.12 * (side * x)], 1))
        start = np.array([side * (1 + _RIM_WIDE), 0.2, _FORWARD - 0.1])
        end = np.array([side * _TEMPLE_OUT, 0.25, -_TEMPLE_BACK])
        lines.append(start + np.linspace(0, 1, 25)[:, None] * (end - start))
    inner = 1 - _RIM_WIDE
    across = np.linspace(-inner, inner, 7)
    lines.append(np.stack([across, 0.12 - across**2, np.full(7, _FORWARD + 0.1)], 1))
    return lines


def composite(
    light: np.ndarray,
    head: HeadModel,
    neutral: NeutralHead,
    scene: Scene,
    view: View,
    points: Points,
    size: int,
) -> None:
    """Composites the glasses, if any, over `light` float32[size * size, 3], in place."""
    if neutral.person.glasses is None:
        return
    left, right = (
        neutral.vertices[head.vertex_part == part].mean(0) for part in (LEFT_EYE, RIGHT_EYE)
    )
    middle, unit = (left + right) / 2, (left[0] - right[0]) / 2
    solid = np.full((size, size), np.inf, np.float32)
    solid.ravel()[points.pixel] = points.depth
    frame, lenses = np.zeros((2, size, size), np.float32)
    thick = max(1, round(_THICK / view.decimeters_per_pixel))
    for line in _outlines():
        seen = project(middle + unit * line, neutral.person.scale, scene, size)
        pixels = np.rint(seen.screen).astype(np.int32)
        column, row = np.clip(pixels, 0, size - 1).T
        shown = seen.depth < solid[row, column] + _BEHIND
        if len(line) == 41 and shown.mean() > 0.5:
            cv2.fillPoly(lenses, [pixels], 1.0)
        for start in np.nonzero(shown[:-1] & shown[1:])[0]:
            ends = pixels[start].tolist(), pixels[start + 1].tolist()
            cv2.line(frame, *ends, 1.0, thick, cv2.LINE_8)
    shine = (lenses * _LENS).reshape(-1, 1)
    light += (scene.ambient_color - light) * shine
    bright = neutral.person.glasses * (scene.ambient_color + 0.5 * scene.key_color)
    light += (bright - light) * frame.reshape(-1, 1)
