"""Draws boxes, labels and heat maps onto an image.

Line widths and letters scale with the image, so that a thumbnail and a 4K frame look alike.
Figures with axes are in `report.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from fer_jax import labels
from fer_jax.inference.overlay import overlay
from fer_jax.inference.results import Face
from fer_jax.printable import printable

Color = tuple[int, int, int]

# Okabe and Ito's palette: distinguishable with every kind of color blindness.
_COLORS: Mapping[str, Color] = {
    labels.NEUTRAL: (200, 200, 200),
    labels.HAPPINESS: (240, 228, 66),
    labels.SADNESS: (86, 180, 233),
    labels.SURPRISE: (230, 159, 0),
    labels.FEAR: (204, 121, 167),
    labels.DISGUST: (0, 158, 115),
    labels.ANGER: (213, 94, 0),
    labels.CONTEMPT: (150, 120, 220),
}
_OTHER_COLOR: Color = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_INK: Color = (20, 20, 20)
_MIN_SIDE = 480  # pixels; smaller images are enlarged so that the letters do not cover them


def annotate(image: np.ndarray, faces: Sequence[Face], *, enlarge: bool = True) -> np.ndarray:
    """Returns a copy of an image with a box and a label for each face, and its heat map if any.

    Args:
      image: uint8[H, W, 3] RGB.
      faces: faces of this image, largest first.
      enlarge: enlarge images with a side below 480 pixels first.

    Returns:
      uint8[H', W', 3] RGB.
    """
    scale = max(1.0, _MIN_SIDE / min(image.shape[:2])) if enlarge else 1.0
    canvas = image.copy()
    for face in faces:
        if face.heat is not None:
            _draw_heat(canvas, face.square, face.heat)
    if scale > 1:
        canvas = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    unit = max(1, round(min(canvas.shape[:2]) / 300))
    # Largest last, so that its label is on top.
    for face in reversed(faces):
        _draw_face(canvas, face, scale, unit)
    if not faces:
        _draw_text(canvas, "no face found", (2 * unit, 2 * unit), _OTHER_COLOR, unit)
    return canvas


def _draw_face(canvas: np.ndarray, face: Face, scale: float, unit: int) -> None:
    x, y, width, height = (round(value * scale) for value in face.box)
    color = _COLORS.get(face.label, _OTHER_COLOR)
    for line, thickness in ((_INK, 3 * unit), (color, unit)):  # dark outline, for contrast
        cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), line, thickness)
    text = f"{printable(face.label)} {face.confidence:.0%}"
    if face.found == "whole":
        text = f"no face found; whole image: {text}"
    _draw_text(canvas, text, (x, y), color, unit, above=True)


def _draw_text(
    canvas: np.ndarray,
    text: str,
    at: tuple[int, int],
    color: Color,
    unit: int,
    *,
    above: bool = False,
) -> None:
    """Draws a label at `at`, below (or above) that point, moved and shrunk to fit the image."""
    height, width = canvas.shape[:2]
    size, pad = 0.5 * unit, 3 * unit
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, size, unit)
    if text_width + 2 * pad > width:
        pad = min(pad, width // 4)
        size *= (width - 2 * pad) / text_width
        (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, size, unit)
    label_width, label_height = text_width + 2 * pad, text_height + baseline + 2 * pad
    left = min(max(at[0], 0), max(width - label_width, 0))
    top = at[1] - label_height if above else at[1]
    top = min(max(top, 0), max(height - label_height, 0))
    cv2.rectangle(canvas, (left, top), (left + label_width, top + label_height), color, -1)
    origin = (left + pad, top + pad + text_height)
    cv2.putText(canvas, text, origin, _FONT, size, _INK, max(1, unit // 2), cv2.LINE_AA)


def _draw_heat(canvas: np.ndarray, square: tuple[int, int, int], heat: np.ndarray) -> None:
    """Overlays a heat map on the image region that it belongs to, in place."""
    x, y, side = square
    height, width = canvas.shape[:2]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + side, width), min(y + side, height)
    if right <= left or bottom <= top:
        return
    full = cv2.resize(heat, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    visible = full[top - y : bottom - y, left - x : right - x]
    canvas[top:bottom, left:right] = overlay(canvas[top:bottom, left:right], visible)
