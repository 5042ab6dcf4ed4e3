"""Finding, cutting and aligning faces: nothing is ever lost, squares are square, eyes level."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from fer_jax import errors
from fer_jax.faces import detect as faces
from tfds_builders.synthface import Spec, render_subject


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


def test_without_a_view_s_box_everything_is_the_face() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    view = (0.1, 0.2, 0.5, 0.5)
    elsewhere = _Finds(faces.Face((150, 0, 40, 40), "haar"))
    found = faces.find_face(image, elsewhere, view, fallback="whole")
    assert found == faces.Face((0, 0, 200, 100), "whole")


@pytest.mark.parametrize(
    ("box", "inside"),
    [((-5, -5, 20, 20), (0, 0, 15, 15)), ((90, 40, 50, 50), (90, 40, 10, 10)),
     ((0, 0, 10**6, 10**6), (0, 0, 100, 50)), ((300, 300, 5, 5), (99, 49, 1, 1))],
)  # fmt: skip
def test_boxes_are_clipped_to_the_picture(box, inside) -> None:
    assert faces.clip(np.array(box), 100, 50) == inside


# insightface's arcface_src, typed in once more.
ARCFACE = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
           [70.7299, 92.2041]]  # fmt: skip


def _moved(points: np.ndarray, scale: float, turn: float, shift: tuple[float, float]) -> np.ndarray:
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + shift


@pytest.mark.parametrize(("scale", "turn"), [(1.0, 0.0), (3.0, 0.5), (0.4, -1.0), (2.0, 3.0)])
def test_alignment_puts_the_points_where_insightface_has_them(scale: float, turn: float) -> None:
    points = _moved(np.array(ARCFACE), scale, turn, (100.0, 40.0))
    matrix = faces.alignment(points, 112)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], ARCFACE, atol=1e-6)
    larger = faces.alignment(points, 224)
    moved = points @ larger[:, :2].T + larger[:, 2]
    np.testing.assert_allclose(moved, (np.array(ARCFACE) + 0.5) * 2 - 0.5, atol=1e-6)


def test_alignment_is_a_similarity_without_reflection() -> None:
    mirrored = np.array(ARCFACE) * (-1, 1) + np.random.default_rng(0).normal(0, 3, (5, 2))
    matrix = faces.alignment(mirrored, 112)[:, :2]
    scale = np.linalg.det(matrix)
    assert scale > 0
    np.testing.assert_allclose(matrix @ matrix.T, scale * np.eye(2), atol=1e-9)


@pytest.mark.parametrize("scale", [0.7, 6.0])
def test_aligned_pictures_have_the_face_upright(scale: float) -> None:
    points = _moved(np.array(ARCFACE), scale, 0.6, (400.0, 100.0))
    image = np.zeros((900, 1100, 3), np.uint8)
    for number, (x, y) in enumerate(points):
        radius = int(8 * scale)
        cv2.circle(image, (round(x), round(y)), radius, (50 * (number + 1),) * 3, -1)
    out = faces.align(image, points, 112)
    assert out.shape == (112, 112, 3)
    for number, (x, y) in enumerate(ARCFACE):
        assert abs(int(out[round(y), round(x), 0]) - 50 * (number + 1)) <= 12


def test_large_faces_are_averaged_not_sampled() -> None:
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    points = np.array(ARCFACE) * 6.3 + 50
    inside = faces.align(stripes, points, 112)[8:-8, 8:-8]
    assert np.abs(inside.astype(int) - 127).max() < 40


def test_landmarks_in_one_place_have_no_alignment() -> None:
    with pytest.raises(ValueError, match="all in one place"):
        faces.alignment(np.ones((5, 2)), 112)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"margin": -0.1}, "margin from 0 to 2, found -0.1"),
        ({"min_share": 1.5}, "min_share from 0 to 1, found 1.5"),
        ({"longest_side": 4}, "longest_side from 16 to 4096, found 4"),
        ({"quality": 0}, "quality from 1 to 100, found 0"),
        ({"method": "crop"}, "detect or shipped or keep or align for method, found 'crop'"),
        ({"fallback": "drop"}, "view or whole for fallback, found 'drop'"),
    ],
)
def test_crop_settings_that_cannot_be_are_refused(fields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        faces.FaceCrop(**fields)


def test_crop_settings_survive_json_and_have_a_digest() -> None:
    one, other = faces.FaceCrop(), faces.FaceCrop(margin=0.2)
    assert faces.FaceCrop.from_json(json.loads(json.dumps(other.to_json()))) == other
    assert (
        len({one.digest(), other.digest(), faces.FaceCrop(detector="haar_frontal").digest()}) == 3
    )
    assert one.digest() == faces.FaceCrop().digest()


def test_a_frontal_detector_looks_for_no_profile() -> None:
    assert faces.FaceCrop(detector="haar_frontal").make_detector()._profile is None
    assert faces.FaceCrop().make_detector()._profile is not None


def test_a_missing_yunet_model_is_a_message(tmp_path) -> None:
    with pytest.raises(errors.UserError, match=r"haar, haar_frontal or the file.*yunet_2023mar"):
        faces.FaceCrop(detector=str(tmp_path / "yunet.onnx")).make_detector()


def test_another_file_in_place_of_a_yunet_model_is_a_message(tmp_path, capfd) -> None:
    (tmp_path / "yunet.onnx").write_bytes(b"<html>not found</html>")
    with pytest.raises(errors.UserError, match=r"YuNet model in .*cannot use"):
        faces.FaceCrop(detector=str(tmp_path / "yunet.onnx")).make_detector()
    capfd.readouterr()  # OpenCV's own complaint


def test_what_yunet_finds_is_a_face_with_landmarks() -> None:
    class Network:
        def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802 - OpenCV's name
            self.size = size

        def detect(self, image: np.ndarray):
            assert image.shape == (160, 320, 3)
            assert self.size == (320, 160)
            small = [5, 5, 10, 10, *range(10), 0.9]
            large = [40, 30, 100, 120, 60, 70, 100, 70, 80, 90, 65, 120, 95, 120, 0.8]
            return 1, np.array([small, large], np.float32)

    detector = faces.YuNetDetector.__new__(faces.YuNetDetector)
    detector._network, detector._min_share = Network(), 0.2
    found = detector.detect(np.zeros((320, 640, 3), np.uint8))
    assert [face.box for face in found] == [(80, 60, 200, 240)]  # the small one is too small
    assert found[0].source == "yunet"
    np.testing.assert_allclose(
        found[0].landmarks, [[120, 140], [200, 140], [160, 180], [130, 240], [190, 240]]
    )
