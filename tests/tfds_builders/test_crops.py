"""Each crop method: the stored crop, the face box, the landmarks."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from fer_jax.executor import IN_FLIGHT, cores
from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.decode import UnreadableError, decode
from fer_jax.faces.detect import Face
from tfds_builders import crops, sources
from tfds_builders.encode import encode_jpeg, encode_png

RGB = np.random.default_rng(0).integers(60, 255, (60, 90, 3), np.uint8)
POINTS = np.array([[35, 25], [55, 25], [45, 35], [38, 45], [52, 45]], float)
FOUND = Face((30, 10, 30, 40), "haar", None)


class FakeDetector:
    """A detector that always returns the same faces."""

    def __init__(self, *found: Face) -> None:
        self._found = list(found)

    def detect(self, image: np.ndarray) -> list[Face]:
        return self._found


def crop(method: str = "detect", found=(FOUND,), **fields):
    settings = FaceCrop(method=method, margin=0.25, longest_side=fields.pop("side", 64))
    request = crops.Request("one", "one.png", **fields)
    return crops.crop_face(RGB, request, settings, FakeDetector(*found))


def test_a_detected_face_is_cropped_with_its_margin() -> None:
    face, small, landmarks = crop(landmarks=POINTS)
    assert face == FOUND
    np.testing.assert_array_equal(small, RGB[0:60, 15:75])
    np.testing.assert_allclose(landmarks, (POINTS + 0.5 - (15, 0)) / 60, rtol=1e-6)


@pytest.mark.parametrize("method", ["shipped", "align"])
def test_the_shipped_box_has_precedence_and_is_clipped(method: str) -> None:
    face, _, landmarks = crop(method, face_box=(70, 40, 50, 50))
    assert face == Face((70, 40, 20, 20), "shipped")
    assert np.isnan(landmarks).all()


@pytest.mark.parametrize("method", ["shipped", "align"])
def test_without_a_shipped_box_the_face_is_detected(method: str) -> None:
    assert crop(method)[0] == FOUND
    assert crop(method, found=())[0] == Face((0, 0, 90, 60), "whole")


def test_aligned_faces_have_fixed_landmarks() -> None:
    face, small, landmarks = crop("align", landmarks=POINTS, side=112)
    # The aligned face covers 58 pixels; its eyes are at 46 %. Its top is outside the image.
    assert face == Face((16, 0, 58, 56), "aligned")
    assert small.shape == (112, 112, 3)
    np.testing.assert_allclose(landmarks[:2].mean(0), [0.5, 0.46], atol=0.03)
    np.testing.assert_allclose(landmarks[3:].mean(0), [0.5, 0.83], atol=0.03)


def test_landmarks_of_the_detector_align_too() -> None:
    found = Face((30, 10, 30, 40), "yunet", tuple(map(tuple, POINTS)))
    assert crop("align", found=(found,), side=112)[0] == Face(FOUND.box, "aligned")


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_missing_landmarks_do_not_align(points: np.ndarray) -> None:
    face, small, _ = crop("align", landmarks=points, side=112)
    assert face.source == "haar"
    assert small.shape == (112, 112, 3)


def test_keep_stores_the_whole_image() -> None:
    face, small, landmarks = crop("keep", found=(), landmarks=POINTS, side=256)
    assert face == Face((0, 0, 90, 60), "shipped")
    assert small is RGB
    np.testing.assert_allclose(landmarks, (POINTS + 0.5) / (90, 60), rtol=1e-6)
    assert crop("keep", side=45)[1].shape == (30, 45, 3)


def write(folder: Path, *names: str) -> sources.Source:
    for name in names:
        data = encode_png(RGB) if name.endswith("png") else encode_jpeg(RGB, 80)
        (folder / name).write_bytes(data)
    return sources.FolderSource(folder)


def test_keep_stores_a_jpeg_unchanged_and_encodes_others(tmp_path: Path) -> None:
    source, settings = write(tmp_path, "a.jpg", "a.png"), FaceCrop(method="keep")
    smaller = FaceCrop(method="keep", longest_side=45)
    requests = [crops.Request(name, name) for name in ("a.jpg", "a.png")]
    jpeg, png = crops.crop_all(source, requests, settings)
    assert jpeg.encoded == source.read("a.jpg")
    assert png.encoded == encode_jpeg(RGB, 95)
    (small,) = crops.crop_all(source, requests[:1], smaller)
    assert decode(small.encoded).shape == (30, 45, 3)


def test_images_that_are_not_files_are_created_in_order_by_one_thread(tmp_path: Path) -> None:
    """As for frames of a video, and never far ahead of the consumer."""
    made: list[tuple[int, int]] = []

    def pixels(number: int) -> np.ndarray:
        made.append((number, threading.get_ident()))
        if number == 7:
            raise UnreadableError("cut off")
        return RGB if number % 2 else RGB[..., 0]

    requests = (
        crops.Request(str(n), "video.flv", pixels=lambda n=n: pixels(n)) for n in range(500)
    )
    source, settings = sources.FolderSource(tmp_path), FaceCrop(method="keep")
    for done, outcome in enumerate(crops.crop_all(source, requests, settings)):
        assert len(made) - done <= crops.PIECE * (IN_FLIGHT * cores() + 1)
        assert outcome.id == str(done)
        expected = crops.Drop if done == 7 else crops.Crop
        assert isinstance(outcome, expected)
    assert [number for number, _ in made] == list(range(500))
    assert {thread for _, thread in made} == {threading.get_ident()}


def test_black_images_are_dropped_on_request(tmp_path: Path) -> None:
    request = crops.Request("a", "a", pixels=lambda: RGB // 50, drops_black=True)
    outcomes = list(crops.crop_all(sources.FolderSource(tmp_path), [request], FaceCrop()))
    assert [one.reason for one in outcomes] == ["black"]
