"""Face detectors: faces are found, blank images and small faces are not; bad models are refused."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax import errors
from fer_jax.faces.crop import FaceCrop, find_face
from fer_jax.faces.detect import HaarDetector, YuNetDetector, clip
from tfds_builders.synthface import Spec, render_subject


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


def test_the_haar_detector_finds_frontal_faces(rendered: list) -> None:
    detector = HaarDetector()
    for face in rendered:
        if face.yaw == 0.0:
            found = find_face(face.image, detector)
            assert found.source == "haar"
            assert _overlap(found.box, face.face_box) > 0.8


def test_the_haar_detector_finds_profiles_in_both_directions(rendered: list) -> None:
    detector = HaarDetector()
    turned = [face for face in rendered if face.yaw != 0.0]
    left = [find_face(face.image, detector) for face in turned]
    right = [find_face(face.image[:, ::-1].copy(), detector) for face in turned]
    assert "profile" in {found.source for found in left}
    for one, other, face in zip(left, right, turned, strict=True):
        assert one.source == other.source
        if one.source == "profile":
            mirrored = (face.image.shape[1] - other.box[0] - other.box[2], *other.box[1:])
            np.testing.assert_allclose(mirrored, one.box, atol=8)


def test_a_blank_image_has_no_face() -> None:
    blank = np.full((300, 200, 3), 128, np.uint8)
    assert HaarDetector().detect(blank) == []


def test_faces_below_the_minimum_size_are_ignored(rendered: list) -> None:
    image = next(face.image for face in rendered if face.yaw == 0.0)
    wide = np.full((600, 600, 3), 128, np.uint8)
    wide[200:400, 200:400] = image
    assert HaarDetector(min_share=0.5).detect(wide) == []
    assert len(HaarDetector(min_share=0.1).detect(wide)) >= 1


def test_the_haar_detector_finds_small_faces_in_large_photos(rendered: list) -> None:
    """If the minimum size asks for them, the photo is reduced less."""
    image = next(face.image for face in rendered if face.yaw == 0.0)
    photo = np.full((1440, 1920, 3), 180, np.uint8)
    photo[700:900, 900:1100] = image
    assert len(HaarDetector(0.05).detect(photo)) == 1
    assert HaarDetector(0.3).detect(photo) == []


def test_overlapping_detections_of_the_cascades_are_one_face(monkeypatch) -> None:
    """The box that most detections agree on remains, first of the largest."""

    class Cascade:
        def detectMultiScale2(self, gray, **settings):  # noqa: N802 - OpenCV's name
            boxes = [(10, 10, 60, 60), (15, 14, 50, 50), (100, 10, 40, 40), (120, 12, 80, 80)]
            return np.array(boxes), np.array([6, 30, 9, 5])

    detector = HaarDetector()
    detector._frontal = Cascade()
    found = detector.detect(np.zeros((200, 300, 3), np.uint8))
    assert [face.box for face in found] == [(15, 14, 50, 50), (100, 10, 40, 40)]


@pytest.mark.parametrize(
    ("box", "inside"),
    [((-5, -5, 20, 20), (0, 0, 15, 15)), ((90, 40, 50, 50), (90, 40, 10, 10)),
     ((0, 0, 10**6, 10**6), (0, 0, 100, 50)), ((300, 300, 5, 5), (99, 49, 1, 1))],
)  # fmt: skip
def test_boxes_are_clipped_to_the_image(box, inside) -> None:
    assert clip(np.array(box), 100, 50) == inside


def test_haar_frontal_has_no_profile_cascade() -> None:
    assert FaceCrop(detector="haar_frontal").make_detector()._profile is None
    assert FaceCrop().make_detector()._profile is not None


def test_a_missing_yunet_model_is_refused(tmp_path) -> None:
    with pytest.raises(errors.UserError, match=r"mtcnn, haar, haar_frontal or .*yunet_2023mar"):
        FaceCrop(detector=str(tmp_path / "yunet.onnx")).make_detector()


def test_a_file_that_is_no_yunet_model_is_refused(tmp_path, capfd) -> None:
    (tmp_path / "yunet.onnx").write_bytes(b"<html>not found</html>")
    with pytest.raises(errors.UserError, match=r"YuNet model in .*cannot use"):
        FaceCrop(detector=str(tmp_path / "yunet.onnx")).make_detector()
    capfd.readouterr()  # OpenCV prints an error too


def test_the_yunet_detector_returns_landmarks() -> None:
    class Network:
        def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802 - OpenCV's name
            self.size = size

        def detect(self, image: np.ndarray):
            assert image.shape == (160, 320, 3)
            assert self.size == (320, 160)
            small = [5, 5, 10, 10, *range(10), 0.9]
            large = [40, 30, 100, 120, 60, 70, 100, 70, 80, 90, 65, 120, 95, 120, 0.8]
            return 1, np.array([small, large], np.float32)

    detector = YuNetDetector.__new__(YuNetDetector)
    detector._network, detector._min_share = Network(), 0.2
    found = detector.detect(np.zeros((320, 640, 3), np.uint8))
    assert [face.box for face in found] == [(80, 60, 200, 240)]  # the other is too small
    assert found[0].source == "yunet"
    np.testing.assert_allclose(
        found[0].landmarks, [[120, 140], [200, 140], [160, 180], [130, 240], [190, 240]]
    )
