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
"""Every unit a picture may carry, in the order of `to_vector`; L and R are the sitter's sides.

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


class Pull(NamedTuple):
    """How much an action unit moves a face unit; `paired` units exist for both sides."""

    face_unit: str
    gain: float = 1.0
    paired: bool = True


# ARKit's face units; gains judged by eye on the head model.
_PULLS: dict[str, tuple[Pull, ...]] = {
    "AU1": (Pull("browInnerUp", paired=False),),
    "AU2": (Pull("browOuterUp"),),
    "AU4": (Pull("browDown"),),
    "AU5": (Pull("eyeWide"),),
    "AU6": (Pull("cheekSquint"), Pull("eyeSquint", 0.35)),
    "AU7": (Pull("eyeSquint", 0.9),),
    "AU9": (
        Pull("noseSneer", 1.25),
        Pull("browDown", 0.35),
        Pull("mouthUpperUp", 0.35),
        Pull("cheekSquint", 0.3),
    ),
    "AU10": (Pull("mouthUpperUp"),),
    "AU11": (Pull("noseSneer", 0.4),),
    "AU12": (Pull("mouthSmile"),),
    "AU14": (Pull("mouthDimple"), Pull("mouthPress", 0.35)),
    "AU15": (Pull("mouthFrown", 1.1),),
    "AU16": (Pull("mouthLowerDown"),),
    "AU17": (
        Pull("mouthShrugLower", paired=False),
        Pull("mouthShrugUpper", 0.3, paired=False),
    ),
    "AU20": (Pull("mouthStretch"),),
    "AU23": (
        Pull("mouthPress", 0.8),
        Pull("mouthRollLower", 0.45, paired=False),
        Pull("mouthRollUpper", 0.35, paired=False),
    ),
    "AU24": (Pull("mouthPress", 0.6), Pull("mouthRollLower", 0.3, paired=False)),
    "AU25": (
        Pull("mouthLowerDown", 0.45),
        Pull("mouthUpperUp", 0.5),
        Pull("jawOpen", 0.08, paired=False),
    ),
    "AU26": (Pull("jawOpen", 0.62, paired=False),),
    "AU43": (Pull("eyeBlink", 0.35), Pull("eyeLookDown", 0.5)),
}

GAZES = ("left", "frontal", "right")
"""Where the eyes look: to the sitter's left, into the camera, to the sitter's right."""

_GAZE_SHIFT = {"left": 0.75, "frontal": 0.0, "right": -0.75}  # of ARKit's eyeLookOut
_MOST = 1.25  # face units beyond this tear the mesh


@dataclasses.dataclass(frozen=True)
class Expression:
    """A drawn expression.

    Attributes:
      name: the emotion, one of `labels.EMOTIONS`.
      action_units: strength by name, every name one of ACTION_UNITS; 1 is strong.
      face_units: weights of the head model's "unit/..." shapes, 0 to 1.25.
    """

    name: str
    action_units: dict[str, float]
    face_units: dict[str, float]


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


def _pull(action_units: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Action units to face units; the two sides of a face never move quite alike."""
    face_units: dict[str, float] = {}
    for unit, strength in action_units.items():
        side = unit[-1] if unit[-1] in "LR" else ""
        for face_unit, gain, paired in _PULLS[unit.removesuffix(side)]:
            for ending in ("Left", "Right") if paired else ("",):
                if ending.startswith(side) or not paired:
                    uneven = 1 + float(rng.normal(0, 0.07))
                    _add(face_units, face_unit + ending, strength * gain * uneven)
    return face_units


def _look(face_units: dict[str, float], gaze: str, rng: np.random.Generator) -> None:
    """Turns the eyes (positive: to the sitter's left, up) and shifts the jaw a little."""
    sideways = _GAZE_SHIFT[gaze] + float(rng.normal(0, 0.12))
    up = float(rng.normal(0, 0.08))
    leftwards = sideways > 0
    _add(face_units, "eyeLookOutLeft" if leftwards else "eyeLookInLeft", abs(sideways))
    _add(face_units, "eyeLookInRight" if leftwards else "eyeLookOutRight", abs(sideways))
    for side in ("Left", "Right"):
        _add(face_units, ("eyeLookUp" if up > 0 else "eyeLookDown") + side, abs(up))
    jaw = "jawLeft" if rng.random() < 0.5 else "jawRight"
    _add(face_units, jaw, abs(float(rng.normal(0, 0.06))))


def draw_expression(name: str, rng: np.random.Generator, gaze: str = "frontal") -> Expression:
    """Draws one showing of the emotion `name`; a pure function of the generator's state."""
    action_units = _prototype(name, rng)
    for unit, spread in _UNRELATED.items():
        _add(action_units, unit, abs(float(rng.normal(0, spread))))
    return show(name, action_units, rng, gaze)


def show(
    name: str, action_units: Mapping[str, float], rng: np.random.Generator, gaze: str = "frontal"
) -> Expression:
    """A showing of given action units (strength by name), which need not be an emotion's."""
    face_units = _pull(action_units, rng)
    _look(face_units, gaze, rng)
    face_units = {unit: float(np.clip(x, 0, _MOST)) for unit, x in face_units.items()}
    return Expression(name, dict(action_units), face_units)
