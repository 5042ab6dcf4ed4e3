"""Finding and cutting faces: rendered ones are found, nothing is ever lost, squares are square."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.data import faces
from fer_jax.synthetic import Spec, render_subject


class _Finds:
    """A detector with an answer."""

    def __init__(self, *found: faces.Face):
        self._found = list(found)

    def detect(self, image: np.ndarray) -> list[faces.Face]:
        return self._found


@pytest.fixture(scope="module")
def rendered() -> list:
    spec = Spec("faces", seed=77, subjects=2, size=200, yaws=(-60.0, 0.0), supersample=1,
                expressions=("neutral", "surprise"), fill=(0.6, 0.62))  # fmt: skip
    return [face for index in range(2) for face in render_subject(spec, index)]


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Intersection over the smaller box."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    smaller = min(one[2] * one[3], other[2] * other[3])
    return max(0, width) * max(0, height) / smaller


def test_frontal_faces_are_found_where_they_are(rendered: list) -> None:
    detector = faces.HaarDetector()
    for face in rendered:
        if face.yaw == 0.0:
            found = faces.find_face(face.image, detector)
            assert found.source == "haar"
            assert _overlap(found.box, face.face_box) > 0.8


def test_faces_turned_away_are_found_in_both_directions(rendered: list) -> None:
    detector = faces.HaarDetector()
    turned = [face for face in rendered if face.yaw != 0.0]
    left = [faces.find_face(face.image, detector) for face in turned]
    right = [faces.find_face(face.image[:, ::-1].copy(), detector) for face in turned]
    assert "profile" in {found.source for found in left}
    for one, other, face in zip(left, right, turned, strict=True):
        assert one.source == other.source
        if one.source == "profile":
            mirrored = (face.image.shape[1] - other.box[0] - other.box[2], *other.box[1:])
            np.testing.assert_allclose(mirrored, one.box, atol=8)


@pytest.mark.parametrize(
    ("found", "view_box", "expected"),
    [
        ([], None, faces.Face((0, 0, 200, 100), "whole")),
        ([], (0.1, 0.2, 0.5, 0.5), faces.Face((20, 20, 100, 50), "view")),
        ([((30, 30, 40, 40), "haar")], (0.1, 0.2, 0.5, 0.5), faces.Face((30, 30, 40, 40), "haar")),
        ([((150, 0, 40, 40), "haar")], (0.1, 0.2, 0.5, 0.5), faces.Face((20, 20, 100, 50), "view")),
        (
            [((150, 0, 40, 40), "haar"), ((30, 30, 30, 30), "profile")],
            (0.1, 0.2, 0.5, 0.5),
            faces.Face((30, 30, 30, 30), "profile"),
        ),
        ([((150, 0, 40, 40), "haar")], None, faces.Face((150, 0, 40, 40), "haar")),
    ],
)
def test_the_face_of_a_portrait(found, view_box, expected: faces.Face) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    detector = _Finds(*(faces.Face(*one) for one in found))
    assert faces.find_face(image, detector, view_box) == expected


def test_nothing_is_found_in_nothing() -> None:
    blank = np.full((300, 200, 3), 128, np.uint8)
    assert faces.HaarDetector().detect(blank) == []


def test_small_faces_are_left_alone(rendered: list) -> None:
    image = next(face.image for face in rendered if face.yaw == 0.0)
    wide = np.full((600, 600, 3), 128, np.uint8)
    wide[200:400, 200:400] = image
    assert faces.HaarDetector(min_share=0.5).detect(wide) == []
    assert len(faces.HaarDetector(min_share=0.1).detect(wide)) >= 1


@pytest.mark.parametrize(
    ("box", "margin", "side"),
    [((10, 10, 20, 20), 0.0, 20), ((10, 10, 20, 20), 0.25, 30), ((0, 0, 20, 10), 0.5, 40)],
)
def test_crops_are_square(box, margin: float, side: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    assert faces.crop_square(image, box, margin).shape == (side, side, 3)


def test_a_crop_inside_is_the_picture_and_outside_its_edge() -> None:
    image = np.arange(50 * 60 * 3, dtype=np.uint32).reshape(50, 60, 3).astype(np.uint8)
    np.testing.assert_array_equal(faces.crop_square(image, (10, 20, 8, 8)), image[20:28, 10:18])
    over = faces.crop_square(image, (0, 0, 10, 10), 0.5)
    np.testing.assert_array_equal(over[5:, 5:], image[:15, :15])
    np.testing.assert_array_equal(over[:5, 5:], np.broadcast_to(image[0, :15], (5, 15, 3)))


def test_shrinking_never_enlarges() -> None:
    image = np.zeros((100, 50, 3), np.uint8)
    assert faces.shrink(image, 200) is image
    assert faces.shrink(image, 40).shape == (40, 20, 3)
