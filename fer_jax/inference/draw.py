"""Paints what was found onto a picture: a frame around each face, and what it expresses.

Sizes follow the picture's, so that a thumbnail and a 4K frame look alike. Figures with
axes are report.plots's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from fer_jax import labels
from fer_jax.inference.overlay import overlay
from fer_jax.inference.results import Face

Colour = tuple[int, int, int]

# Okabe and Ito's palette, which stays apart for every kind of colour blindness.
_COLOURS: Mapping[str, Colour] = {
    labels.NEUTRAL: (200, 200, 200),
    labels.HAPPINESS: (240, 228, 66),
    labels.SADNESS: (86, 180, 233),
    labels.SURPRISE: (230, 159, 0),
    labels.FEAR: (204, 121, 167),
    labels.DISGUST: (0, 158, 115),
    labels.ANGER: (213, 94, 0),
    labels.CONTEMPT: (150, 120, 220),
}
_OTHER: Colour = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_INK: Colour = (20, 20, 20)
_SMALLEST = 480  # pixels: a smaller picture is enlarged, or the letters would cover it


def annotate(image: np.ndarray, faces: Sequence[Face], *, enlarge: bool = True) -> np.ndarray:
    """A picture with its faces framed and named; heat maps are laid over the faces.

    Args:
      image: uint8[H, W, 3] RGB; it stays as it is.
      faces: of this picture.
      enlarge: make pictures below 480 pixels larger first.

    Returns:
      uint8[H', W', 3] RGB.
    """
    scale = max(1.0, _SMALLEST / min(image.shape[:2])) if enlarge else 1.0
    painted = image.copy()
    for face in faces:
        if face.heat is not None:
            _lay_heat(painted, face.square, face.heat)
    if scale > 1:
        painted = cv2.resize(painted, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    unit = max(1, round(min(painted.shape[:2]) / 300))
    # The largest face comes first; its name must not lie below another's.
    for face in reversed(faces):
        _frame(painted, face, scale, unit)
    if not faces:
        _write(painted, "no face found", (2 * unit, 2 * unit), _OTHER, unit)
    return painted


def _frame(painted: np.ndarray, face: Face, scale: float, unit: int) -> None:
    x, y, width, height = (round(value * scale) for value in face.box)
    colour = _COLOURS.get(face.label, _OTHER)
    for line, thickness in ((_INK, 3 * unit), (colour, unit)):  # dark below, to be seen on any
        cv2.rectangle(painted, (x, y), (x + width - 1, y + height - 1), line, thickness)
    text = f"{face.label} {face.confidence:.0%}"
    if face.found == "whole":
        text = f"no face found; whole picture: {text}"
    _write(painted, text, (x, y), colour, unit, above=True)


def _write(
    painted: np.ndarray,
    text: str,
    at: tuple[int, int],
    colour: Colour,
    unit: int,
    *,
    above: bool = False,
) -> None:
    """A label with its lower (or upper) left corner at `at`, moved and shrunk to fit inside."""
    height, width = painted.shape[:2]
    size, pad = 0.5 * unit, 3 * unit
    (wide, high), below = cv2.getTextSize(text, _FONT, size, unit)
    if wide + 2 * pad > width:
        size *= (width - 2 * pad) / wide
        (wide, high), below = cv2.getTextSize(text, _FONT, size, unit)
    tall = high + below + 2 * pad
    left = min(max(at[0], 0), max(width - wide - 2 * pad, 0))
    top = at[1] - tall if above else at[1]
    top = min(max(top, 0), max(height - tall, 0))
    cv2.rectangle(painted, (left, top), (left + wide + 2 * pad, top + tall), colour, -1)
    place = (left + pad, top + pad + high)
    cv2.putText(painted, text, place, _FONT, size, _INK, max(1, unit // 2), cv2.LINE_AA)


def _lay_heat(painted: np.ndarray, square: tuple[int, int, int], heat: np.ndarray) -> None:
    """Colours the part of the picture that the network saw, in place."""
    x, y, side = square
    height, width = painted.shape[:2]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + side, width), min(y + side, height)
    if right <= left or bottom <= top:
        return
    whole = cv2.resize(heat, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    inside = whole[top - y : bottom - y, left - x : right - x]
    painted[top:bottom, left:right] = overlay(painted[top:bottom, left:right], inside)
