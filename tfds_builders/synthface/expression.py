"""Expressions: from emotions to FACS action units to weights of the head's blend shapes.

The action units are ground truth. An emotion's prototype follows EMFACS (Friesen and
Ekman 1983; Ekman, Friesen and Hager, FACS Investigator's Guide, 2002); its strength is
random, and weak unrelated units are added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fer_jax import labels

ACTION_UNITS = (
    "AU1", "AU2", "AU2L", "AU2R", "AU4", "AU5", "AU6", "AU7", "AU9", "AU10", "AU11", "AU12",
    "AU12L", "AU12R", "AU14L", "AU14R", "AU15", "AU16", "AU17", "AU20", "AU23", "AU24", "AU25",
    "AU26", "AU43",
)  # fmt: skip
"""All action units, in the order of `to_vector`; L and R are the subject's left and right.

AU43 occurs only at low strength: the drooping upper lid of sadness.
"""


class Activation(NamedTuple):
    """An action unit of a prototype: uniform range of its relative strength, and probability."""

    unit: str
    low: float = 0.7
    high: float = 1.15
    probability: float = 1.0


PROTOTYPES: dict[str, tuple[Activation, ...]] = {
    labels.NEUTRAL: (),
    labels.HAPPINESS: (
        Activation("AU6"),
        Activation("AU12", 0.8, 1.2),
        Activation("AU25", 0.4, 1.3, 0.75),
        Activation("AU26", 0.1, 0.5, 0.3),
    ),
    labels.SADNESS: (
        Activation("AU1"),
        Activation("AU4", 0.4, 0.9),
        Activation("AU15"),
        Activation("AU17", 0.3, 1.0, 0.6),
        Activation("AU11", 0.3, 0.8, 0.4),
        Activation("AU43", 0.1, 0.5, 0.6),
    ),
    labels.SURPRISE: (
        Activation("AU1"),
        Activation("AU2"),
        Activation("AU5", 0.5, 1.1),
        Activation("AU26", 0.5, 1.15),
        Activation("AU25", 0.2, 0.6),
    ),
    labels.FEAR: (
        Activation("AU1"),
        Activation("AU2", 0.4, 0.9),
        Activation("AU4", 0.5, 0.9),
        Activation("AU5"),
        Activation("AU7", 0.3, 0.7),
        Activation("AU20"),
        Activation("AU26", 0.1, 0.6),
        Activation("AU25", 0.3, 0.9),
    ),
    labels.DISGUST: (
        Activation("AU9"),
        Activation("AU15", 0.4, 0.9),
        Activation("AU16", 0.4, 1.0, 0.8),
        Activation("AU10", 0.5, 1.0, 0.6),
        Activation("AU4", 0.2, 0.6, 0.5),
        Activation("AU6", 0.2, 0.6, 0.4),
    ),
    labels.ANGER: (
        Activation("AU4"),
        Activation("AU5", 0.3, 0.8, 0.8),
        Activation("AU7", 0.5, 1.0),
        Activation("AU23", 0.7, 1.1),
        Activation("AU24", 0.4, 1.0, 0.4),
        Activation("AU17", 0.2, 0.7, 0.4),
    ),
    # One-sided: `_prototype` draws the side.
    labels.CONTEMPT: (
        Activation("AU12", 0.45, 0.8),
        Activation("AU14", 0.7, 1.15),
        Activation("AU2", 0.2, 0.6, 0.3),
    ),
}

ONE_SIDED = (labels.CONTEMPT,)
STRENGTH = (0.45, 1.05)  # range of the strength of an expression

# Standard deviation of weak units that occur with any emotion.
_UNRELATED = {
    "AU1": 0.05, "AU2": 0.05, "AU4": 0.06, "AU7": 0.06,
    "AU12": 0.03, "AU25": 0.04, "AU17": 0.05, "AU24": 0.05,
}  # fmt: skip


class Gain(NamedTuple):
    """Weight of a blend shape per strength of an action unit.

    Attributes:
      blend_shape: ARKit name, without "Left" or "Right" if `two_sided`.
      gain: weight at strength 1.
      two_sided: whether there is one blend shape for each side.
    """

    blend_shape: str
    gain: float = 1.0
    two_sided: bool = True


# Gains were chosen by eye on the head model.
_GAINS: dict[str, tuple[Gain, ...]] = {
    "AU1": (Gain("browInnerUp", two_sided=False),),
    "AU2": (Gain("browOuterUp"),),
    "AU4": (Gain("browDown"),),
    "AU5": (Gain("eyeWide"),),
    "AU6": (Gain("cheekSquint"), Gain("eyeSquint", 0.35)),
    "AU7": (Gain("eyeSquint", 0.9),),
    "AU9": (
        Gain("noseSneer", 1.25),
        Gain("browDown", 0.35),
        Gain("mouthUpperUp", 0.35),
        Gain("cheekSquint", 0.3),
    ),
    "AU10": (Gain("mouthUpperUp"),),
    "AU11": (Gain("noseSneer", 0.4),),
    "AU12": (Gain("mouthSmile"),),
    "AU14": (Gain("mouthDimple"), Gain("mouthPress", 0.35)),
    "AU15": (Gain("mouthFrown", 1.1),),
    "AU16": (Gain("mouthLowerDown"),),
    "AU17": (
        Gain("mouthShrugLower", two_sided=False),
        Gain("mouthShrugUpper", 0.3, two_sided=False),
    ),
    "AU20": (Gain("mouthStretch"),),
    "AU23": (
        Gain("mouthPress", 0.8),
        Gain("mouthRollLower", 0.45, two_sided=False),
        Gain("mouthRollUpper", 0.35, two_sided=False),
    ),
    "AU24": (
        Gain("mouthPress", 0.6),
        Gain("mouthRollLower", 0.3, two_sided=False),
    ),
    "AU25": (
        Gain("mouthLowerDown", 0.45),
        Gain("mouthUpperUp", 0.5),
        Gain("jawOpen", 0.08, two_sided=False),
    ),
    "AU26": (Gain("jawOpen", 0.62, two_sided=False),),
    "AU43": (Gain("eyeBlink", 0.35), Gain("eyeLookDown", 0.5)),
}

GAZES = ("left", "frontal", "right")
"""Gaze directions: to the subject's left, into the camera, to the subject's right."""

_GAZE_SHIFT = {"left": 0.75, "frontal": 0.0, "right": -0.75}  # weight of eyeLookOutLeft
_MAX_WEIGHT = 1.25  # larger blend shape weights distort the mesh


@dataclasses.dataclass(frozen=True)
class Expression:
    """An expression of a face.

    Attributes:
      name: the emotion, one of `labels.EMOTIONS`.
      action_units: strength by name (ACTION_UNITS); 1 is strong.
      blend_shapes: weight by name of the head model's "unit/..." shapes, 0 to 1.25.
    """

    name: str
    action_units: dict[str, float]
    blend_shapes: dict[str, float]


def to_vector(action_units: Mapping[str, float]) -> np.ndarray:
    """Converts strengths by name to float32[len(ACTION_UNITS)]; absent units are 0."""
    return np.array([action_units.get(unit, 0.0) for unit in ACTION_UNITS], np.float32)


def _prototype(name: str, rng: np.random.Generator) -> dict[str, float]:
    strength = rng.uniform(*STRENGTH)
    side = ("L" if rng.random() < 0.5 else "R") if name in ONE_SIDED else ""
    units = {}
    for unit, low, high, probability in PROTOTYPES[name]:
        if rng.random() < probability:
            units[unit + side] = float(strength * rng.uniform(low, high))
    return units


def _add(units: dict[str, float], name: str, value: float) -> None:
    units[name] = units.get(name, 0.0) + value


def _to_blend_shapes(
    action_units: Mapping[str, float], rng: np.random.Generator
) -> dict[str, float]:
    """Converts action units to blend shape weights, with slight random asymmetry."""
    blend_shapes: dict[str, float] = {}
    for unit, strength in action_units.items():
        side = unit[-1] if unit[-1] in "LR" else ""
        for blend_shape, gain, two_sided in _GAINS[unit.removesuffix(side)]:
            for ending in ("Left", "Right") if two_sided else ("",):
                if ending.startswith(side) or not two_sided:
                    asymmetry = 1 + float(rng.normal(0, 0.07))
                    _add(blend_shapes, blend_shape + ending, strength * gain * asymmetry)
    return blend_shapes


def _add_gaze(blend_shapes: dict[str, float], gaze: str, rng: np.random.Generator) -> None:
    """Adds the gaze direction and a slight lateral shift of the jaw, in place."""
    sideways = _GAZE_SHIFT[gaze] + float(rng.normal(0, 0.12))
    up = float(rng.normal(0, 0.08))
    leftwards = sideways > 0
    _add(blend_shapes, "eyeLookOutLeft" if leftwards else "eyeLookInLeft", abs(sideways))
    _add(blend_shapes, "eyeLookInRight" if leftwards else "eyeLookOutRight", abs(sideways))
    for side in ("Left", "Right"):
        _add(blend_shapes, ("eyeLookUp" if up > 0 else "eyeLookDown") + side, abs(up))
    jaw = "jawLeft" if rng.random() < 0.5 else "jawRight"
    _add(blend_shapes, jaw, abs(float(rng.normal(0, 0.06))))


def draw_expression(name: str, rng: np.random.Generator, gaze: str = "frontal") -> Expression:
    """Draws an expression of the emotion `name`. Deterministic given `rng`."""
    action_units = _prototype(name, rng)
    for unit, spread in _UNRELATED.items():
        _add(action_units, unit, abs(float(rng.normal(0, spread))))
    return expression_of(name, action_units, rng, gaze)


def expression_of(
    name: str, action_units: Mapping[str, float], rng: np.random.Generator, gaze: str = "frontal"
) -> Expression:
    """Builds an expression from action units (strength by name), which may be arbitrary."""
    blend_shapes = _to_blend_shapes(action_units, rng)
    _add_gaze(blend_shapes, gaze, rng)
    blend_shapes = {unit: float(np.clip(x, 0, _MAX_WEIGHT)) for unit, x in blend_shapes.items()}
    return Expression(name, dict(action_units), blend_shapes)
