"""Wrinkles: bump heights of the skin, driven by action units and age.

Wrinkles are placed in rest space (see `head`). Depths are in decimeters, chosen by eye.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfds_builders.synthface.texture import bump, smoothstep

_TURN = 2 * np.pi


class _Face:
    """Rest-space points float32[P, 3] of the skin, action units by name, and age."""

    def __init__(self, rest: np.ndarray, action_units: Mapping[str, float], age: float) -> None:
        self.x, self.y, self.z = rest.T
        self.lateral = np.abs(self.x)
        self.front = smoothstep(0.5, 1.0, self.z)
        self.age = age
        self.aging = 0.25 + 0.9 * age
        self._units = action_units

    def unit(self, name: str) -> float:
        return self._units.get(name, 0.0)

    def sided(self, name: str) -> np.ndarray:
        """Strength float[P] of a one-sided unit at each point."""
        return np.where(self.x > 0, self.unit(name + "L"), self.unit(name + "R"))

    def age_above(self, age: float) -> float:
        return max(0.0, self.age - age)


def _forehead(face: _Face, fine: np.ndarray) -> np.ndarray:
    """Horizontal forehead lines (AU1, AU2)."""
    outer = np.maximum(face.unit("AU2"), face.sided("AU2"))
    raised = face.unit("AU1") * bump(face.lateral, 0.3) + outer * bump(face.lateral - 0.4, 0.22)
    depth = np.clip(raised * (0.5 + face.aging) + 0.35 * face.age_above(0.4), 0, 1.2)
    height = face.y - 0.06 * face.lateral**2 + 0.014 * fine - 7.66
    lines = smoothstep(0.1, 1.0, np.cos(height * (_TURN / 0.092)))
    return -0.012 * depth * lines * bump(face.y - 7.78, 0.1) * face.front


def _frown(face: _Face, fine: np.ndarray) -> np.ndarray:
    """Vertical lines between the brows (AU4, AU9)."""
    strength = face.unit("AU4") + 0.5 * face.unit("AU9")
    depth = np.clip(strength * (0.5 + face.aging) + 0.25 * face.age_above(0.5), 0, 1.2)
    line = bump(face.lateral - 0.055 - 0.12 * (face.y - 7.5) + 0.004 * fine, 0.012)
    return -0.022 * depth * line * bump(face.y - 7.52, 0.08) * face.front


def _nose(face: _Face) -> np.ndarray:
    """Lines across the bridge of the nose (AU9)."""
    depth = np.clip(face.unit("AU9") * (0.6 + face.aging), 0, 1.2)
    lines = smoothstep(0.3, 0.9, np.cos((face.y + 0.5 * face.lateral - 7.3) * (_TURN / 0.06)))
    return -0.010 * depth * lines * bump(face.lateral, 0.09) * bump(face.y - 7.3, 0.08) * face.front


def _nasolabial(face: _Face) -> np.ndarray:
    """Nasolabial folds (AU12, AU9, AU10, AU20)."""
    strength = face.unit("AU12") + face.sided("AU12") + 0.8 * face.unit("AU9")
    strength = strength + 0.5 * face.unit("AU10") + 0.4 * face.unit("AU20")
    depth = np.clip(strength * (0.5 + 0.8 * face.aging) + 0.45 * face.age_above(0.25), 0, 1.3)
    down = np.clip((6.98 - face.y) / 0.36, 0, 1)
    fold = bump(face.lateral - 0.155 - 0.16 * down**0.9, 0.018 + 0.01 * down)
    ends = smoothstep(7.02, 6.95, face.y) * smoothstep(6.58, 6.68, face.y)
    return -0.028 * depth * fold * ends * face.front


def _crow_feet(face: _Face, fine: np.ndarray) -> np.ndarray:
    """Crow's feet at the outer eye corners (AU6, AU7)."""
    strength = face.unit("AU6") + 0.3 * face.unit("AU7")
    depth = np.clip(strength * face.aging * 1.3 + 0.4 * face.age_above(0.4), 0, 1.2)
    right, up = face.lateral - 0.36, face.y - 7.34
    angle = np.arctan2(up, right)
    fan = smoothstep(0.1, 1.0, np.cos(angle * 12 + fine)) * (np.abs(angle) < 0.9)
    ring = bump(np.hypot(up, right) - 0.17, 0.05)
    return -0.008 * depth * fan * ring * smoothstep(0.6, 0.9, face.z)


def _eye_bags(face: _Face) -> np.ndarray:
    """Bags below the eyes (AU6, AU7)."""
    strength = 0.5 * face.unit("AU6") + 0.4 * face.unit("AU7")
    depth = np.clip(strength + 0.6 * face.age_above(0.3), 0, 1.2)
    line = bump(face.y - 7.235 - (face.lateral - 0.29) ** 2, 0.012)
    return -0.012 * depth * line * bump(face.lateral - 0.28, 0.12) * face.front


def _chin(face: _Face, pores: np.ndarray) -> np.ndarray:
    """Dimpled texture of the chin (AU17, AU15)."""
    depth = np.clip(face.unit("AU17") + 0.4 * face.unit("AU15"), 0, 1)
    return 0.006 * depth * pores * bump(face.lateral, 0.13) * bump(face.y - 6.36, 0.08) * face.front


def heights(
    rest: np.ndarray,
    action_units: Mapping[str, float],
    age: float,
    fine: np.ndarray,
    pores: np.ndarray,
) -> np.ndarray:
    """Returns the bump height float32[P] of the wrinkles, decimeters; negative is a groove.

    Args:
      rest: float32[P, 3], skin points in rest space.
      action_units: strengths by name.
      age: 0 to 1; with age, wrinkles deepen and some are permanent.
      fine, pores: float32[P], noise that makes the lines irregular.
    """
    face = _Face(rest, action_units, age)
    total = _forehead(face, fine) + _frown(face, fine) + _nose(face) + _nasolabial(face)
    return total + _crow_feet(face, fine) + _eye_bags(face) + _chin(face, pores)
