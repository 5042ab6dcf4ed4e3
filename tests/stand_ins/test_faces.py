"""The face pool of the stand-ins: ground truth follows the image, and files are marked."""

from __future__ import annotations

import pathlib
import zipfile

import cv2
import numpy as np
import pytest

from fer_jax import labels
from tfds_builders.stand_in_mark import STAND_IN_COMMENT, is_stand_in
from tfds_builders.stand_ins import faces

POOL = faces.FacePool(seed=7, people=2, labels=(labels.NEUTRAL, labels.SURPRISE), size=96)


def _dotted() -> faces.PooledFace:
    """A black image with a white dot at each landmark."""
    points = np.array([[36, 40], [62, 40], [49, 55], [40, 68], [58, 68]], np.float32)
    image = np.zeros((96, 96, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (int(x), int(y)), 2, (255, 255, 255), -1)
    return faces.PooledFace(image, labels.NEUTRAL, 0, (30.0, 30.0, 40.0, 45.0), points)


def _brightness_at(image: np.ndarray, points: np.ndarray) -> list[int]:
    return [int(image[round(float(y)), round(float(x))].max()) for x, y in points]


def test_pool_has_each_person_and_label_once() -> None:
    assert len(POOL) == len(POOL.faces()) == 4
    assert POOL.face(3, labels.SURPRISE) is POOL.faces()[1, labels.SURPRISE]
    assert POOL.faces() is faces.FacePool(7, 2, POOL.labels, size=96).faces()


def test_landmarks_are_inside_the_face_in_anatomical_order() -> None:
    for face in POOL.faces().values():
        x, y, width, height = face.face_box
        relative = (face.landmarks - (x, y)) / (width, height)
        assert ((relative > 0.05) & (relative < 0.95)).all()
        left, right, nose, mouth_left, mouth_right = relative
        assert left[0] < nose[0] < right[0]
        assert mouth_left[0] < nose[0] < mouth_right[0]
        assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


@pytest.mark.parametrize("key", ["a", "b", "c", "d", "e"])
def test_vary_transforms_box_and_landmarks(key: str) -> None:
    varied = faces.vary(_dotted(), key)
    assert min(_brightness_at(varied.image, varied.landmarks)) > 120
    assert varied.landmarks[0, 0] < varied.landmarks[1, 0]  # mirrored or not
    x, y, width, height = varied.face_box
    assert abs(width / height - 40 / 45) < 1e-6
    assert ((varied.landmarks > (x, y)) & (varied.landmarks < (x + width, y + height))).all()


def test_vary_depends_on_the_key_alone_and_mirrors_some() -> None:
    again = [faces.vary(_dotted(), "train_00001").image for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert _left_eyes(mirror=True) == {34, 36}
    assert _left_eyes(mirror=False) == {36}
    still = faces.vary(_dotted(), "a", strength=0.0, mirror=False)
    np.testing.assert_array_equal(still.image, _dotted().image)


def _left_eyes(mirror: bool) -> set[float]:
    """x of the eye at image left, in some variations that are at most mirrored."""
    varied = [faces.vary(_dotted(), str(key), strength=0, mirror=mirror) for key in range(12)]
    return {float(face.landmarks[0, 0]) for face in varied}


def test_place_centers_the_face_box() -> None:
    placed = faces.place(_dotted(), (200, 300), (90.0, 120.0), 90.0)
    assert placed.image.shape == (300, 200, 3)
    np.testing.assert_allclose(placed.face_box, (50.0, 75.0, 80.0, 90.0))
    assert min(_brightness_at(placed.image, placed.landmarks)) > 200


@pytest.mark.parametrize("write", [faces.jpeg, faces.png])
def test_files_carry_the_mark(write) -> None:
    image = POOL.face(0, labels.NEUTRAL).image
    data = write(image)
    assert is_stand_in(data)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - image).mean() < 4
    assert not is_stand_in(data.replace(STAND_IN_COMMENT, b"holiday"))


def test_pack_skips_partial_files(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "Train" / "Angry"
    faces.write_file(folder / "a.png", b"whole")
    (folder / ".b.png.partial").write_bytes(b"half")
    faces.pack(tmp_path / "Train", tmp_path / "Train.zip", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Train.zip"]
    with zipfile.ZipFile(tmp_path / "Train.zip") as archive:
        assert archive.namelist() == ["Train/Angry/a.png"]


@pytest.mark.parametrize("jobs", [1, 13])
def test_jobs_run_in_this_process_or_in_workers(jobs: int) -> None:
    assert sorted(faces.run_jobs(abs, [(-number,) for number in range(jobs)])) == list(range(jobs))
