"""Tests of preprocessing."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.data.preprocess import InputFormat, Preprocessing


@pytest.mark.parametrize(
    ("normalize", "expected"), [("unit", [0, 0.2, 1]), ("symmetric", [-1, -0.6, 1])]
)
def test_fixed_ranges(normalize, expected):
    pixels = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 1, 1, 3)
    out = Preprocessing(8, normalize).normalized(pixels)
    np.testing.assert_allclose(out.ravel(), expected, atol=1e-6)


def test_standardize_is_per_image_and_finite_for_constant_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
    images[1] //= 8
    images[2] = 77
    out = np.asarray(Preprocessing(8, "standardize").normalized(jnp.asarray(images)))
    np.testing.assert_allclose(out.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out[:2].std((1, 2, 3)), 1, atol=1e-3)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("shape", [(8, 8), (30, 20), (5, 6)])
def test_images_are_resized(shape):
    image = np.full((*shape, 3), 9, np.uint8)
    out = Preprocessing(8, "unit").framed(image, (0, 0, 1, 1))
    assert out.shape == (8, 8, 3)
    assert (out == 9).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((8, "imagenet"), "expected one of unit.*'imagenet'"),
        ((0, "unit"), "at least 4 pixels, found 0"),
        ((8, "unit", None, -0.1), r"data.face_margin in \[0, 2\], found -0.1"),
        ((8, "unit", None, None, "oval"), "none, ellipse, landmarks for data.mask, found 'oval'"),
    ],
)
def test_invalid_values_are_reported(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(*fields)


def published(channels, scale, mean, std=(1, 1, 1)) -> Preprocessing:
    return Preprocessing(8, "weights", InputFormat(channels, scale, mean, std))


# The pixel R 255, G 51, B 0 as each library preprocesses it.
CAFFE = published("bgr", 1.0, (103.939, 116.779, 123.68))
TORCH = published("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION = published("rgb", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FORMATS = [
    (CAFFE, [-103.939, -65.779, 131.32]),
    (TORCH, [2.2489083, -1.1428571, -1.8044444]),
    (INCEPTION, [1, -0.6, -1]),
]


@pytest.mark.parametrize(("preprocessing", "expected"), FORMATS)
def test_pixels_match_the_library_of_the_weights(preprocessing, expected):
    pixel = jnp.array([255, 51, 0], jnp.uint8).reshape(1, 1, 1, 3)
    out = preprocessing.normalized(pixel)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out.ravel(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(8, "unit"),
        Preprocessing(8, "unit", mask="ellipse"),
        *(preprocessing for preprocessing, _ in FORMATS),
    ],
)
def test_json_round_trip(preprocessing):
    stored = json.loads(json.dumps(preprocessing.to_json()))
    assert Preprocessing.from_json(stored) == preprocessing


def test_format_1_without_input_format_is_read():
    stored = {"size": 100, "normalize": "standardize"}
    assert Preprocessing.from_json(stored) == Preprocessing(100, "standardize")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Preprocessing(8, "weights"), "found none with 'weights'"),
        (lambda: Preprocessing(8, "unit", CAFFE.input_format), "found some with 'unit'"),
        (lambda: InputFormat("hsv", 1.0, (0, 0, 0)), "channels rgb or bgr, found 'hsv'"),
        (lambda: InputFormat("rgb", 1.0, (0, 0)), "three means"),
        (lambda: InputFormat("rgb", 1.0, (0, 0, 0), (1, 0, 1)), "positive deviations"),
    ],
)
def test_invalid_formats_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def face(shift: float = 0.0, turn: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Returns the five landmarks of a centered upright face, shifted, rotated (radians), scaled."""
    points = np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.38, 0.72], [0.62, 0.72]]) - 0.5
    turned = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return turned * scale + 0.5 + (shift, 0)


WHITE = np.full((40, 40, 3), 255, np.uint8)


def shown(mask: str, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Returns bool[40, 40]: the pixels of a white image that a mask leaves white."""
    out = Preprocessing(40, "unit", mask=mask).framed(WHITE, (0, 0, 40, 40), landmarks)
    assert set(np.unique(out)) <= {0, 255}
    assert (out == out[..., :1]).all()
    return out[..., 0] == 255


def test_the_ellipse_shows_the_face_and_hides_the_corners():
    assert shown("none").all()
    inside = shown("ellipse", face())
    np.testing.assert_array_equal(inside, inside[::-1, ::-1])
    assert inside[2:38, 20].all()
    assert inside[20, 6:34].all()
    assert not inside[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert 0.4 < inside.mean() < 0.6


def test_the_mask_follows_the_landmarks():
    upright = shown("landmarks", face())
    assert upright[[int(40 * y) for _, y in face()], [int(40 * x) for x, _ in face()]].all()
    moved = shown("landmarks", face(shift=-0.2))
    np.testing.assert_array_equal(moved[:, :20], upright[:, 8:28])
    assert shown("landmarks", face(scale=0.5)).sum() == pytest.approx(upright.sum() / 4, rel=0.1)
    lying = shown("landmarks", face(turn=np.pi / 2))
    np.testing.assert_array_equal(lying, np.rot90(upright, -1))


def test_missing_landmarks_fall_back_to_the_ellipse():
    unknown = np.full((5, 2), np.nan)
    np.testing.assert_array_equal(shown("landmarks", unknown), shown("ellipse"))
    np.testing.assert_array_equal(shown("landmarks"), shown("ellipse"))


def test_landmarks_are_cropped_with_the_image():
    wide = np.full((40, 80, 3), 255, np.uint8)
    framing = Preprocessing(40, "unit", face_margin=0.0, mask="landmarks")
    in_wide = face(shift=-0.2) * (0.5, 1.0) + (0.25, 0.0)  # the box is centered in the image
    out = framing.framed(wide, (20, 0, 40, 40), in_wide)
    np.testing.assert_array_equal(out[..., 0] == 255, shown("landmarks", face(shift=-0.2)))
