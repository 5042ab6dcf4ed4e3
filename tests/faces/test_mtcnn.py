"""MTCNN: boxes and landmarks of facenet-pytorch, odd sizes, determinism, overlapping boxes."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.decode import read_image
from fer_jax.faces.detect import MtcnnDetector
from fer_jax.faces.mtcnn import WEIGHTS, Mtcnn, suppress

EXAMPLES = Path(__file__).parents[2] / "fer_jax/serve/examples"

REFERENCE = {
    "1_happiness.jpg": [
        ([104.9, 102.7, 208.1, 236.9],
         [[131.9, 155.7], [180.5, 155.5], [156.1, 188.1], [133.7, 205.3], [180.7, 203.0]]),
    ],
    "2_surprise.jpg": [
        ([123.9, 87.7, 229.4, 231.8],
         [[152.2, 143.5], [199.2, 143.2], [176.0, 169.1], [157.6, 197.9], [196.6, 197.5]]),
    ],
    "3_anger.jpg": [
        ([110.0, 106.5, 219.8, 247.3],
         [[146.4, 159.4], [195.4, 161.0], [174.2, 192.9], [146.9, 215.9], [190.0, 216.7]]),
    ],
    "4_group.jpg": [
        ([442.9, 88.8, 549.5, 235.5],
         [[472.1, 144.4], [518.2, 144.2], [494.9, 169.6], [477.6, 200.0], [515.5, 198.0]]),
        ([752.7, 106.6, 861.8, 247.5],
         [[787.1, 158.1], [835.9, 160.0], [812.7, 188.6], [788.1, 213.3], [829.2, 214.3]]),
        ([104.9, 102.7, 208.1, 236.9],
         [[131.9, 155.7], [180.5, 155.5], [156.1, 188.1], [133.7, 205.3], [180.7, 203.0]]),
    ],
}  # fmt: skip
"""Boxes (left, top, right, bottom) and landmarks of facenet-pytorch 2.6.0 with PyTorch 2.13,
`MTCNN(keep_all=True, min_face_size=32)` on the page's rendered examples; a tenth of their side."""


@pytest.fixture(scope="module")
def detector() -> Mtcnn:
    return Mtcnn(0.1)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return read_image(EXAMPLES / "1_happiness.jpg")


@pytest.mark.parametrize("name", REFERENCE)
def test_boxes_and_landmarks_are_those_of_facenet_pytorch(detector, name) -> None:
    boxes, points = detector.find(read_image(EXAMPLES / name))
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    expected = sorted(REFERENCE[name], key=lambda face: face[0][0])
    order = np.argsort(corners[:, 0])
    np.testing.assert_allclose(corners[order], [box for box, _ in expected], atol=2)
    np.testing.assert_allclose(points[order], [marks for _, marks in expected], atol=2.6)


def test_landmarks_begin_with_the_eye_on_the_left_of_the_image(detector, portrait) -> None:
    for image in (portrait, portrait[:, ::-1]):
        _, ((left, right, nose, mouth_left, mouth_right),) = detector.find(image)
        assert left[0] < nose[0] < right[0]
        assert mouth_left[0] < nose[0] < mouth_right[0]
        assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


@pytest.mark.parametrize("factor", [0.25, 0.5, 3.0, 8.0])
def test_the_size_of_the_image_changes_little(detector, portrait, factor) -> None:
    (box,), (points,) = detector.find(portrait)
    sized = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    (other,), (others,) = detector.find(sized)
    tolerance = 0.1 * box[3]
    np.testing.assert_allclose(other / factor, box, atol=tolerance)
    np.testing.assert_allclose(others / factor, points, atol=tolerance)


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.1, 0)])
def test_small_faces_in_large_photos_are_found_on_request(portrait, share, count) -> None:
    photo = np.full((1440, 1920, 3), 180, np.uint8)
    photo[700:860, 900:1060] = cv2.resize(portrait, (160, 160), interpolation=cv2.INTER_AREA)
    found = MtcnnDetector(share).detect(photo)
    assert len(found) == count
    for face in found:
        assert 900 < face.box[0] < face.box[0] + face.box[2] < 1060
        assert face.source == "mtcnn"


@pytest.mark.parametrize(("share", "count"), [(0.41, 1), (0.43, 0)])
def test_faces_below_the_minimum_size_are_ignored(portrait, share, count) -> None:
    """The face has 0.42 of the image's side."""
    assert len(MtcnnDetector(share).detect(portrait)) == count


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),
        (1, 3000),
        (3000, 1),
        (1, 60_000),
        (10, 2000),
        (11, 11),
        (21, 21),
        (33, 700),
        (500, 500),
    ],
)
@pytest.mark.parametrize("kind", ["noise", "black", "white"])
def test_images_without_a_face_have_none(detector, shape, kind) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    image = {"noise": noise, "black": noise * 0, "white": noise * 0 + 255}[kind]
    boxes, points = detector.find(image)
    assert boxes.shape == (0, 4)
    assert points.shape == (0, 5, 2)


def test_a_face_at_the_border_is_found_and_its_box_clipped(portrait) -> None:
    (whole,) = MtcnnDetector(0.1).detect(portrait)
    cut = round(whole.box[1] + 0.2 * whole.box[3])  # the forehead is outside
    (face,) = MtcnnDetector(0.1).detect(portrait[cut:])
    assert face.box[1] == 0
    moved = np.array(whole.landmarks) - (0, cut)
    np.testing.assert_allclose(face.landmarks, moved, atol=0.08 * whole.box[3])


def test_results_are_the_same_again_and_in_threads(detector) -> None:
    image = read_image(EXAMPLES / "4_group.jpg")
    expected = detector.find(image)
    detector.find(image[:100])  # another size in between
    with futures.ThreadPoolExecutor(3) as pool:
        others = list(pool.map(lambda _: Mtcnn(0.1).find(image), range(6)))
    for boxes, points in [detector.find(image), *others]:
        np.testing.assert_array_equal(boxes, expected[0])
        np.testing.assert_array_equal(points, expected[1])


def test_views_are_taken(detector, portrait) -> None:
    view = np.asfortranarray(portrait)
    np.testing.assert_array_equal(detector.find(view)[0], detector.find(portrait)[0])


def test_the_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size < 2_500_000


def test_it_is_a_detector_by_name() -> None:
    assert isinstance(FaceCrop(detector="mtcnn").make_detector(), MtcnnDetector)


@pytest.mark.parametrize(
    ("boxes", "scores", "of_smaller", "kept"),
    [
        ([(0, 0, 10, 10), (1, 0, 11, 10)], (0.5, 0.9), False, [1]),
        ([(0, 0, 10, 10), (8, 0, 18, 10)], (0.5, 0.9), False, [1, 0]),
        ([(0, 0, 10, 10), (0, 0, 4, 4)], (0.9, 0.5), False, [0, 1]),
        ([(0, 0, 10, 10), (0, 0, 4, 4)], (0.9, 0.5), True, [0]),
        ([(0, 0, 10, 10), (0, 0, 10, 10)], (0.5, 0.5), True, [0]),
        ([(0, 0, 9, 9), (1, 0, 10, 9), (2, 0, 11, 9)], (0.5, 0.9, 0.7), False, [1]),
        ([], (), True, []),
    ],
)
def test_boxes_that_overlap_a_better_one_are_dropped(boxes, scores, of_smaller, kept) -> None:
    array = np.array(boxes, float).reshape(-1, 4)
    result = suppress(array, np.array(scores, float), 0.5, of_smaller=of_smaller)
    assert result.tolist() == kept
