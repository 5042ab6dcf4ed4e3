"""Draws boxes, labels and heat maps onto an image.

Line widths and letters scale with the image, so that a thumbnail and a 4K frame look alike.
Figures with axes are in `report.plots`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer_jax import fonts, labels
from fer_jax.inference.overlay import overlay
from fer_jax.inference.results import Face
from fer_jax.printable import printable

Color = tuple[int, int, int]

# Okabe and Ito's palette: distinguishable with every kind of color blindness.
COLORS: Mapping[str, Color] = {
    labels.NEUTRAL: (200, 200, 200),
    labels.HAPPINESS: (240, 228, 66),
    labels.SADNESS: (86, 180, 233),
    labels.SURPRISE: (230, 159, 0),
    labels.FEAR: (204, 121, 167),
    labels.DISGUST: (0, 158, 115),
    labels.ANGER: (213, 94, 0),
    labels.CONTEMPT: (150, 120, 220),
}
"""Color of each expression, RGB, in annotated images and timelines."""

_OTHER_COLOR: Color = (255, 255, 255)
_FONT = 15  # size of the letters, pixels of an image of up to 450
_INK: Color = (20, 20, 20)
_MIN_SIDE = 480  # pixels; smaller images are enlarged so that the letters do not cover them


def color_of(names: Sequence[str], label: int) -> Color:
    """Returns the color of a class: that of the expression, or any for a class of another name."""
    return COLORS.get(names[label], tuple(COLORS.values())[label % len(COLORS)])


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
    label, probability = face.shown()
    color = COLORS.get(label, _OTHER_COLOR)
    for line, thickness in ((_INK, 3 * unit), (color, unit)):  # dark outline, for contrast
        cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), line, thickness)
    text = f"{printable(label)} {probability:.0%}"
    if face.track is not None:
        text = f"{face.track}: {text}"
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
    pad = min(3 * unit, width // 4)
    letters = _letters(text, _FONT * unit)
    if (room := width - 2 * pad) < letters.shape[1]:
        letters = _letters(text, max(1, _FONT * unit * room // letters.shape[1]))[:, :room]
    letters = letters[: max(0, height - 2 * pad)]
    label_height, label_width = letters.shape[0] + 2 * pad, letters.shape[1] + 2 * pad
    left = min(max(at[0], 0), max(width - label_width, 0))
    top = at[1] - label_height if above else at[1]
    top = min(max(top, 0), max(height - label_height, 0))
    label = np.full((label_height, label_width, 3), color, np.float32)
    inner = label[pad : pad + letters.shape[0], pad : pad + letters.shape[1]]
    inner += (np.array(_INK, np.float32) - inner) * letters[..., None]
    part = canvas[top : top + label_height, left : left + label_width]
    part[:] = label[: part.shape[0], : part.shape[1]].round()


@functools.lru_cache(64)  # a video repeats them in every frame
def _letters(text: str, size: int) -> np.ndarray:
    """Returns how much ink each pixel of a line of text has, float32[H, W] in [0, 1]."""
    shown = fonts.drawable(text)
    font = ImageFont.truetype((fonts.font_for(shown) or fonts.default()).path, size)
    left, _, right, _ = font.getbbox(shown)
    image = Image.new("L", (max(1, math.ceil(right - min(left, 0))), sum(font.getmetrics())))
    ImageDraw.Draw(image).text((-min(left, 0), 0), shown, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


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
