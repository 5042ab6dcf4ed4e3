"""All images of one person, with ground truth."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfds_builders.synthface import geometry, render
from tfds_builders.synthface.expression import draw_expression
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.scene import draw_background, draw_scene
from tfds_builders.synthface.spec import (
    PERSON,
    SHOT,
    STUDIO,
    Shot,
    Spec,
    shot_key,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """An image and its ground truth.

    Attributes:
      id: image id, unique across seeds.
      subject: person id, unique across seeds.
      image: uint8[S, S, 3], RGB.
      expression: one of `labels.EMOTIONS`.
      action_units: strengths by name (`expression.ACTION_UNITS`).
      yaw: nominal camera angle, degrees.
      gaze: one of `expression.GAZES`.
      session: from 0.
      face_box: x, y, width, height in pixels, brows to chin, from the projected mesh.
      landmarks: float32[5, 2] in pixels: eyes, nose tip, mouth corners, image left first.
      sex: 0 (female) to 1 (male).
      age: 0 (young) to 1 (old).
      skin: 0 (light) to 1 (dark).
    """

    id: str
    subject: str
    image: np.ndarray
    expression: str
    action_units: dict[str, float]
    yaw: float
    gaze: str
    session: int
    face_box: tuple[int, int, int, int]
    landmarks: np.ndarray
    sex: float
    age: float
    skin: float


def _image_id(spec: Spec, subject: str, shot: Shot) -> str:
    """Image id from the fields that vary within the set."""
    words = [subject, shot.expression, f"{shot.yaw:+03.0f}"]
    if len(spec.gazes) > 1:
        words.append(shot.gaze)
    if spec.sessions > 1:
        words.append("ABCDEFGH"[shot.session])
    if spec.yaw_range and spec.views > 1:
        words.append(str(shot.view))
    return "_".join(words)


def render_subject(spec: Spec, index: int) -> list[Face]:
    """Renders all images of person `index`; a pure function of its arguments."""
    head = load_head()
    person = draw_person(head, spec.rng(index, PERSON), spec.glasses)
    neutral = geometry.build_neutral_head(head, person)
    subject = f"s{spec.seed}-{index:04d}"
    faces = []
    for shot in spec.shots(index):
        studio = draw_background(spec.rng(index, STUDIO, shot.session), spec.wild)
        key = shot_key(shot.expression, shot.gaze, shot.session)
        rng = spec.rng(index, SHOT, *key, 1 + shot.view)
        expression = draw_expression(shot.expression, rng, shot.gaze)
        background = studio if spec.wild < 0.5 else None
        scene = draw_scene(rng, shot.yaw, spec.wild, spec.fill, background, spec.occlusion)
        rendering = render.render(head, neutral, expression, scene, spec.size, spec.supersample)
        faces.append(
            Face(
                id=_image_id(spec, subject, shot),
                subject=subject,
                image=rendering.image,
                expression=shot.expression,
                action_units=expression.action_units,
                yaw=shot.yaw,
                gaze=shot.gaze,
                session=shot.session,
                face_box=rendering.face_box,
                landmarks=rendering.landmarks,
                sex=person.male,
                age=person.age,
                skin=person.skin,
            )
        )
    return faces
