"""What the face does: emotions to FACS action units to the head model's face units.

The action units are the ground truth of a picture. Their prototypes follow
EMFACS (Friesen and Ekman 1983; Ekman, Friesen and Hager, FACS Investigator's
Guide, 2002), at random strength, with weak unrelated units mixed in.
Draws parameters only; nothing here touches a mesh.
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
"""Every unit a picture may carry, in the order of `to_vector`; L and R are the subject's sides.

AU43 at these low strengths is the drooping upper lid of sadness.
"""


class Activation(NamedTuple):
    """One unit of a prototype: relative strength, drawn evenly, and how often it occurs."""

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
    # One-sided: the side is drawn, see `_prototype`.
    labels.CONTEMPT: (
        Activation("AU12", 0.45, 0.8),
        Activation("AU14", 0.7, 1.15),
        Activation("AU2", 0.2, 0.6, 0.3),
    ),
}

ONE_SIDED = (labels.CONTEMPT,)
STRENGTH = (0.45, 1.05)  # of the whole expression: from faint to full

# Deviation of the weak units that any face shows, whatever it feels.
_UNRELATED = {
    "AU1": 0.05, "AU2": 0.05, "AU4": 0.06, "AU7": 0.06,
    "AU12": 0.03, "AU25": 0.04, "AU17": 0.05, "AU24": 0.05,
}  # fmt: skip


class BlendShapeGain(NamedTuple):
    """How much an action unit moves a face unit; `two_sided` units exist for both sides."""

    blend_shape: str
    gain: float = 1.0
    two_sided: bool = True


# ARKit's face units; gains judged by eye on the head model.
_BLEND_SHAPE_GAINS: dict[str, tuple[BlendShapeGain, ...]] = {
    "AU1": (BlendShapeGain("browInnerUp", two_sided=False),),
    "AU2": (BlendShapeGain("browOuterUp"),),
    "AU4": (BlendShapeGain("browDown"),),
    "AU5": (BlendShapeGain("eyeWide"),),
    "AU6": (BlendShapeGain("cheekSquint"), BlendShapeGain("eyeSquint", 0.35)),
    "AU7": (BlendShapeGain("eyeSquint", 0.9),),
    "AU9": (
        BlendShapeGain("noseSneer", 1.25),
        BlendShapeGain("browDown", 0.35),
        BlendShapeGain("mouthUpperUp", 0.35),
        BlendShapeGain("cheekSquint", 0.3),
    ),
    "AU10": (BlendShapeGain("mouthUpperUp"),),
    "AU11": (BlendShapeGain("noseSneer", 0.4),),
    "AU12": (BlendShapeGain("mouthSmile"),),
    "AU14": (BlendShapeGain("mouthDimple"), BlendShapeGain("mouthPress", 0.35)),
    "AU15": (BlendShapeGain("mouthFrown", 1.1),),
    "AU16": (BlendShapeGain("mouthLowerDown"),),
    "AU17": (
        BlendShapeGain("mouthShrugLower", two_sided=False),
        BlendShapeGain("mouthShrugUpper", 0.3, two_sided=False),
    ),
    "AU20": (BlendShapeGain("mouthStretch"),),
    "AU23": (
        BlendShapeGain("mouthPress", 0.8),
        BlendShapeGain("mouthRollLower", 0.45, two_sided=False),
        BlendShapeGain("mouthRollUpper", 0.35, two_sided=False),
    ),
    "AU24": (BlendShapeGain("mouthPress", 0.6), BlendShapeGain("mouthRollLower", 0.3, two_sided=False)),
    "AU25": (
        BlendShapeGain("mouthLowerDown", 0.45),
        BlendShapeGain("mouthUpperUp", 0.5),
        BlendShapeGain("jawOpen", 0.08, two_sided=False),
    ),
    "AU26": (BlendShapeGain("jawOpen", 0.62, two_sided=False),),
    "AU43": (BlendShapeGain("eyeBlink", 0.35), BlendShapeGain("eyeLookDown", 0.5)),
}

GAZES = ("left", "frontal", "right")
"""Where the eyes look: to the subject's left, into the camera, to the subject's right."""

_GAZE_SHIFT = {"left": 0.75, "frontal": 0.0, "right": -0.75}  # of ARKit's eyeLookOut
_MAX_WEIGHT = 1.25  # face units beyond this tear the mesh


@dataclasses.dataclass(frozen=True)
class Expression:
    """A drawn expression.

    Attributes:
      name: the emotion, one of `labels.EMOTIONS`.
      action_units: strength by name, every name one of ACTION_UNITS; 1 is strong.
      blend_shapes: weights of the head model's "unit/..." shapes, 0 to 1.25.
    """

    name: str
    action_units: dict[str, float]
    blend_shapes: dict[str, float]


def to_vector(action_units: Mapping[str, float]) -> np.ndarray:
    """Strengths by name to float32[len(ACTION_UNITS)], 0 where a unit is absent."""
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


def _to_blend_shapes(action_units: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Action units to face units; the two sides of a face never move quite alike."""
    blend_shapes: dict[str, float] = {}
    for unit, strength in action_units.items():
        side = unit[-1] if unit[-1] in "LR" else ""
        for blend_shape, gain, two_sided in _BLEND_SHAPE_GAINS[unit.removesuffix(side)]:
            for ending in ("Left", "Right") if two_sided else ("",):
                if ending.startswith(side) or not two_sided:
                    uneven = 1 + float(rng.normal(0, 0.07))
                    _add(blend_shapes, blend_shape + ending, strength * gain * uneven)
    return blend_shapes


def _add_gaze(blend_shapes: dict[str, float], gaze: str, rng: np.random.Generator) -> None:
    """Turns the eyes (positive: to the subject's left, up) and shifts the jaw a little."""
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
    """Draws one showing of the emotion `name`; a pure function of the generator's state."""
    action_units = _prototype(name, rng)
    for unit, spread in _UNRELATED.items():
        _add(action_units, unit, abs(float(rng.normal(0, spread))))
    return expression_of(name, action_units, rng, gaze)


def expression_of(
    name: str, action_units: Mapping[str, float], rng: np.random.Generator, gaze: str = "frontal"
) -> Expression:
    """A showing of given action units (strength by name), which need not be an emotion's."""
    blend_shapes = _to_blend_shapes(action_units, rng)
    _add_gaze(blend_shapes, gaze, rng)
    blend_shapes = {unit: float(np.clip(x, 0, _MAX_WEIGHT)) for unit, x in blend_shapes.items()}
    return Expression(name, dict(action_units), blend_shapes)
