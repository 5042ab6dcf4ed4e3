"""Images: deterministic, with correct face boxes, and found by a face detector."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from fer_jax import labels
from tfds_builders.synthface import (
    PRESETS,
    Spec,
    geometry,
    presets,
    render_subject,
)
from tfds_builders.synthface.expression import draw_expression
from tfds_builders.synthface.head import (
    BODY,
    LEFT_EYE,
    RIGHT_EYE,
    load_head,
)
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.scene import draw_scene

SMALL = Spec("small", 5, 2, size=32, expressions=(labels.NEUTRAL, labels.FEAR), yaws=(0.0, 90.0))


def test_a_subject_is_a_pure_function_of_seed_and_index() -> None:
    first, again = (render_subject(SMALL, 1) for _ in range(2))
    other_person = render_subject(SMALL, 0)
    other_seed = render_subject(dataclasses.replace(SMALL, seed=6), 1)
    for face, same, person, seed in zip(first, again, other_person, other_seed, strict=True):
        assert np.array_equal(face.image, same.image)
        assert not np.array_equal(face.image, person.image)
        assert not np.array_equal(face.image, seed.image)
        assert len({face.subject, person.subject, seed.subject}) == 3


def test_image_does_not_depend_on_the_other_images() -> None:
    alone = dataclasses.replace(SMALL, expressions=(labels.FEAR,), subjects=9)
    among_others = [face for face in render_subject(SMALL, 1) if face.expression == labels.FEAR]
    for face, same in zip(among_others, render_subject(alone, 1), strict=True):
        assert face.id == same.id
        assert np.array_equal(face.image, same.image)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_render_their_specification(name: str) -> None:
    spec = PRESETS[name](seed=4, subjects=1, size=24)
    faces = render_subject(dataclasses.replace(spec, supersample=1), 0)
    assert len(faces) == spec.images_per_subject
    assert len({face.id for face in faces}) == len(faces)
    assert {face.expression for face in faces} == set(spec.expressions)
    assert {face.gaze for face in faces} == set(spec.gazes)
    assert {face.session for face in faces} == set(range(spec.sessions))
    if not spec.views and not spec.yaw_range:
        assert {face.yaw for face in faces} == set(spec.yaws)
    for face in faces:
        assert face.image.shape == (24, 24, 3)
        assert face.image.dtype == np.uint8
        assert face.image.std() > 5
        assert face.yaw in spec.yaws if not spec.yaw_range else abs(face.yaw) <= spec.yaw_range


def test_presets_have_the_counts_of_the_real_sets() -> None:
    assert presets.kdef_like(0, 70).images_per_subject * 70 == 4_900
    assert presets.rafd_like(0, 67).images_per_subject * 67 == 8_040


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"name": "other"}, True),
        ({"subjects": 3}, True),
        ({"seed": 6}, False),
        ({"size": 33}, False),
        ({"expressions": (labels.NEUTRAL,)}, False),
        ({"yaws": (0.0, 45.0)}, False),
        ({"yaw_range": 10.0}, False),
        ({"views": 1}, False),
        ({"gazes": ("left",)}, False),
        ({"sessions": 2}, False),
        ({"wild": 1.0}, False),
        ({"glasses": 0.5}, False),
        ({"occlusion": 0.5}, False),
        ({"fill": (0.5, 0.6)}, False),
        ({"supersample": 1}, False),
        ({"jpeg_quality": 50}, False),
    ],
)
def test_digest_depends_on_every_field_that_changes_an_image(change: dict, same: bool) -> None:
    assert (dataclasses.replace(SMALL, **change).digest == SMALL.digest) is same


def test_unknown_expression_is_an_error() -> None:
    with pytest.raises(ValueError, match="happy"):
        dataclasses.replace(SMALL, expressions=("happy",))


@pytest.mark.parametrize("yaw", [-90, -45, 0, 45, 90])
def test_face_box_contains_eyes_and_mouth(yaw: int) -> None:
    head = load_head()
    for subject in range(4):
        rng = np.random.default_rng(subject)
        neutral = geometry.build_neutral_head(head, draw_person(head, rng))
        vertices = geometry.apply_expression(head, neutral, draw_expression(labels.SURPRISE, rng))
        scene = draw_scene(rng, yaw, 0.0, (0.6, 0.6))
        view = geometry.project(vertices, neutral.person.scale, scene, 100)
        left, top, right, bottom = geometry.face_box(head, view, 100)
        mouth = (np.abs(head.rest[:, 1] - 6.7) < 0.08) & (head.rest[:, 2] > 1.2)
        for part in (
            head.vertex_part == LEFT_EYE,
            head.vertex_part == RIGHT_EYE,
            mouth & (head.vertex_part == BODY),
        ):
            x, y = view.screen[part].mean(0) / 100
            assert left < x < right
            assert top < y < bottom
        assert 0.2 < bottom - top < 0.6


def test_positive_yaw_turns_the_nose_to_image_right() -> None:
    head = load_head()
    neutral = geometry.build_neutral_head(head, draw_person(head, np.random.default_rng(0)))
    scene = draw_scene(np.random.default_rng(0), 45, 0.0, (0.6, 0.6))
    view = geometry.project(neutral.vertices, 1.0, scene, 100)
    nose = np.argmax(np.where(head.vertex_part == BODY, head.rest[:, 2], -9))
    assert view.screen[nose, 0] > view.screen[head.vertex_part == LEFT_EYE].mean(0)[0] - 30
    assert view.screen[nose, 0] > 50 + 5


def test_haar_cascade_finds_frontal_studio_faces() -> None:
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")
    spec = dataclasses.replace(presets.demo(8, 5, size=112), yaws=(0.0,), supersample=1)
    detected = overlaps = total = 0
    for subject in range(spec.subjects):
        for face in render_subject(spec, subject):
            gray = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
            boxes = cascade.detectMultiScale(gray, 1.1, 3)
            total += 1
            detected += len(boxes) > 0
            overlaps += any(_overlap(box, face.face_box) > 0.4 for box in boxes)
    assert detected >= 0.9 * total
    assert overlaps >= 0.9 * total


def _overlap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(wide, 0) * max(high, 0)
    return both / (a[2] * a[3] + b[2] * b[3] - both)
