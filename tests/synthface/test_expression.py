"""Action units follow EMFACS and displace the face in the right direction."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax import labels
from tfds_builders.synthface import geometry
from tfds_builders.synthface.expression import (
    ACTION_UNITS,
    PROTOTYPES,
    Expression,
    draw_expression,
    to_vector,
)
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person

DRAWS = 40
FAINT = 0.28  # upper bound of the unrelated units

# Units that every expression of an emotion has, and units that none has (EMFACS).
ALWAYS_NEVER = [
    (labels.NEUTRAL, (), ("AU5", "AU6", "AU9", "AU12L", "AU15", "AU20", "AU26")),
    (labels.HAPPINESS, ("AU6", "AU12"), ("AU9", "AU15", "AU20")),
    (labels.SADNESS, ("AU1", "AU4", "AU15"), ("AU6", "AU9", "AU26")),
    (labels.SURPRISE, ("AU1", "AU2", "AU5", "AU26"), ("AU9", "AU15", "AU20")),
    (labels.FEAR, ("AU1", "AU2", "AU4", "AU5", "AU20"), ("AU9", "AU15")),
    (labels.DISGUST, ("AU9", "AU15"), ("AU5", "AU20", "AU26")),
    (labels.ANGER, ("AU4", "AU7", "AU23"), ("AU9", "AU15", "AU26")),
]


@pytest.mark.parametrize(("emotion", "always", "never"), ALWAYS_NEVER)
def test_prototypes(emotion: str, always: tuple[str, ...], never: tuple[str, ...]) -> None:
    for seed in range(DRAWS):
        units = draw_expression(emotion, np.random.default_rng(seed)).action_units
        assert all(units[unit] > 0.1 for unit in always)
        assert not set(never) & set(units)
        others = set(units) - {activation.unit for activation in PROTOTYPES[emotion]}
        assert all(units[unit] < FAINT for unit in others)


def test_contempt_is_one_sided() -> None:
    sides = set()
    for seed in range(DRAWS):
        expression = draw_expression(labels.CONTEMPT, np.random.default_rng(seed))
        side = {unit[-1] for unit in expression.action_units if unit[-1] in "LR"}
        assert len(side) == 1
        sides |= side
        smile = {"L": "mouthSmileLeft", "R": "mouthSmileRight"}[side.pop()]
        assert expression.blend_shapes[smile] > 0.1
    assert sides == {"L", "R"}


def test_vector_has_every_action_unit() -> None:
    for emotion in labels.EMOTIONS:
        for seed in range(DRAWS):
            units = draw_expression(emotion, np.random.default_rng(seed)).action_units
            vector = to_vector(units)
            assert vector.dtype == np.float32
            assert vector.sum() == pytest.approx(sum(units.values()), rel=1e-5)
            assert vector[ACTION_UNITS.index("AU4")] == np.float32(units["AU4"])


def test_every_blend_shape_exists_in_the_head_model() -> None:
    head = load_head()
    for emotion in labels.EMOTIONS:
        for gaze in ("left", "right"):
            drawn = draw_expression(emotion, np.random.default_rng(0), gaze)
            assert {f"unit/{name}" for name in drawn.blend_shapes} <= set(head.shape_names)


@pytest.mark.parametrize(("gaze", "side"), [("left", 1), ("right", -1)])
def test_gaze_turns_both_eyes(gaze: str, side: int) -> None:
    head = load_head()
    neutral = geometry.build_neutral_head(head, draw_person(head, np.random.default_rng(0)))
    drawn = draw_expression(labels.NEUTRAL, np.random.default_rng(1), gaze)
    only_eyes = {k: v for k, v in drawn.blend_shapes.items() if k.startswith("eyeLook")}
    eyes_only = Expression(labels.NEUTRAL, {}, only_eyes)
    moved = geometry.apply_expression(head, neutral, eyes_only) - geometry.apply_expression(
        head, neutral, Expression(labels.NEUTRAL, {}, {})
    )
    for part in (1, 2):
        ball = head.vertex_part == part
        pupil = ball & (head.rest[:, 2] > head.rest[ball, 2].max() - 0.02)
        assert side * moved[pupil, 0].mean() > 0.02  # x is the subject's left
