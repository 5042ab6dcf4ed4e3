"""Choosing and cropping the face of an image; the crop settings."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fer_jax.faces.crop import FaceCrop, crop_square, find_face, shrink
from fer_jax.faces.detect import Face


class _FakeDetector:
    """A detector that always returns the same faces."""

    def __init__(self, *found: Face):
        self._found = list(found)

    def detect(self, image: np.ndarray) -> list[Face]:
        return self._found


@pytest.mark.parametrize(
    ("found", "view_box", "expected"),
    [
        ([], None, Face((0, 0, 200, 100), "whole")),
        ([], (0.1, 0.2, 0.5, 0.5), Face((20, 20, 100, 50), "view")),
        ([((30, 30, 40, 40), "haar")], (0.1, 0.2, 0.5, 0.5), Face((30, 30, 40, 40), "haar")),
        ([((150, 0, 40, 40), "haar")], (0.1, 0.2, 0.5, 0.5), Face((20, 20, 100, 50), "view")),
        (
            [((150, 0, 40, 40), "haar"), ((30, 30, 30, 30), "profile")],
            (0.1, 0.2, 0.5, 0.5),
            Face((30, 30, 30, 30), "profile"),
        ),
        ([((150, 0, 40, 40), "haar")], None, Face((150, 0, 40, 40), "haar")),
    ],
)
def test_find_face_returns_the_largest_face_in_view(found, view_box, expected: Face) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    detector = _FakeDetector(*(Face(*one) for one in found))
    assert find_face(image, detector, view_box) == expected


@pytest.mark.parametrize(
    ("box", "margin", "side"),
    [((10, 10, 20, 20), 0.0, 20), ((10, 10, 20, 20), 0.25, 30), ((0, 0, 20, 10), 0.5, 40)],
)
def test_crops_are_square(box, margin: float, side: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    assert crop_square(image, box, margin).shape == (side, side, 3)


def test_a_crop_beyond_the_border_repeats_the_edge() -> None:
    image = np.arange(50 * 60 * 3, dtype=np.uint32).reshape(50, 60, 3).astype(np.uint8)
    np.testing.assert_array_equal(crop_square(image, (10, 20, 8, 8)), image[20:28, 10:18])
    over = crop_square(image, (0, 0, 10, 10), 0.5)
    np.testing.assert_array_equal(over[5:, 5:], image[:15, :15])
    np.testing.assert_array_equal(over[:5, 5:], np.broadcast_to(image[0, :15], (5, 15, 3)))


def test_shrinking_never_enlarges() -> None:
    image = np.zeros((100, 50, 3), np.uint8)
    assert shrink(image, 200) is image
    assert shrink(image, 40).shape == (40, 20, 3)


def test_the_whole_fallback_ignores_the_view_box() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    view = (0.1, 0.2, 0.5, 0.5)
    elsewhere = _FakeDetector(Face((150, 0, 40, 40), "haar"))
    found = find_face(image, elsewhere, view, fallback="whole")
    assert found == Face((0, 0, 200, 100), "whole")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"margin": -0.1}, "margin from 0 to 2, found -0.1"),
        ({"min_share": 1.5}, "min_share from 0 to 1, found 1.5"),
        ({"longest_side": 4}, "longest_side from 16 to 4096, found 4"),
        ({"quality": 0}, "quality from 1 to 100, found 0"),
        ({"method": "crop"}, "detect or shipped or keep or pad or align for method, found 'crop'"),
        ({"fallback": "drop"}, "view or whole for fallback, found 'drop'"),
    ],
)
def test_invalid_crop_settings_are_refused(fields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceCrop(**fields)


def test_crop_settings_round_trip_through_json_and_have_a_digest() -> None:
    one, other = FaceCrop(), FaceCrop(margin=0.2)
    assert FaceCrop.from_json(json.loads(json.dumps(other.to_json()))) == other
    assert len({one.digest(), other.digest(), FaceCrop(detector="haar_frontal").digest()}) == 3
    assert one.digest() == FaceCrop().digest()
