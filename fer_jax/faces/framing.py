"""Frames a face: maps an image and the face in it to the pixels that a network sees.

The only code that does. Training, evaluation, prediction and the page use it, and exported files
come with a copy of this folder. Detecting faces is the task of `finder`; normalization is part of
the network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from fer_jax.faces.align import align, aligned_landmarks, are_distinct
from fer_jax.faces.crop import FaceCrop, crop_origin, crop_square, pad_square, shrink
from fer_jax.faces.detect import Face, clip

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

BoxChange = tuple[float, float, float]
"""Maps a detected box to the box of a data set: shift of the center to the right and down, and the
longer side, as fractions of the detected box's longer side."""

# The ellipse of a face in its square crop: center and semi-axes (x, y) as shares of the side.
_ELLIPSE_CENTER = (0.5, 0.5)
_ELLIPSE_AXES = (0.36, 0.46)
# The ellipse from landmarks, in units of the distance between the midpoints of the eyes and the
# mouth. It reaches from 0.75 above the eyes to 1.75 below (brows to chin), and 1.15 to each side.
_EYES_TO_CENTER = 0.5
_LANDMARK_AXES = (1.15, 1.25)


@dataclasses.dataclass(frozen=True)
class Framing:
    """How the input of a network shows a face.

    Attributes:
      size: side of the square input, pixels.
      mask: which pixels are black: "none", "ellipse" or "landmarks" (`data.preprocess`).
      margin: images are cropped to the face box, widened on each side by this share of its longer
        side; None if the images of the data set are stored cropped, as `crop` says.
      crop: how the images of the data set are stored.
      detector: `FaceCrop.detector` of prediction.
      box_changes: how detected boxes become those of the data set, by `Face.source`.
      takes_whole: whether prediction takes each image as one face, unless told otherwise.
    """

    size: int
    mask: str
    margin: float | None
    crop: FaceCrop
    detector: str
    box_changes: Mapping[str, BoxChange]
    takes_whole: bool = False

    def frame(self, image: np.ndarray, face: Face) -> np.ndarray:
        """Returns uint8[size, size, 3]: a face of `image` (uint8[H, W, 3]).

        The box and landmarks of `face` are those of the data set, see `adapted`.
        """
        if self.margin is None:
            stored, landmarks = store_face(image, face, self.crop)
            return fit_face(stored, self.size, self.mask, landmarks)
        landmarks = landmark_shares(face.landmarks, (0, 0), (image.shape[1], image.shape[0]))
        return frame_box(image, face.box, landmarks, self.size, self.margin, self.mask)

    def frame_whole(self, image: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray:
        """Returns uint8[size, size, 3]: an image that is one face already, as it is.

        Args:
          image: uint8[H, W, 3].
          landmarks: float[5, 2], shares of the width and height; None or NaN if unknown.
        """
        if self.margin is not None:
            return fit_face(image, self.size, self.mask, landmarks)
        stored = shrink(image, self.crop.longest_side)
        if self.crop.method == "pad":
            height, width = image.shape[:2]
            left, top, side = self.whole_square(width, height)
            stored = pad_square(stored)
            if landmarks is not None:
                landmarks = (np.asarray(landmarks) * (width, height) - (left, top)) / side
        return fit_face(stored, self.size, self.mask, landmarks)

    def whole_square(self, width: int, height: int) -> tuple[int, int, int]:
        """Left, top and side of the square that `frame_whole` shows of an image."""
        if self.crop.method == "pad" and self.margin is None:
            return crop_origin((0, 0, width, height), 0.0)
        return 0, 0, max(width, height)

    def square(self, box: Box) -> tuple[int, int, int]:
        """Left, top and side of the square around a box that `frame` crops, if it crops one."""
        return crop_origin(box, self.crop.margin if self.margin is None else self.margin)

    def adapted(self, face: Face, width: int, height: int) -> Face:
        """Changes the box of a detected face to the data set's, and clips it to the image."""
        if face.source not in self.box_changes:
            return face
        right, down, share = self.box_changes[face.source]
        x, y, box_width, box_height = face.box
        longer = max(box_width, box_height)
        side = max(1, round(share * longer))
        left = round(x + box_width / 2 + right * longer - side / 2)
        top = round(y + box_height / 2 + down * longer - side / 2)
        return dataclasses.replace(face, box=clip(np.array((left, top, side, side)), width, height))

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return {**dataclasses.asdict(self), "crop": self.crop.to_json()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Framing:
        """Inverse of `to_json`."""
        return cls(**{**stored, "crop": FaceCrop.from_json(stored["crop"])})


def store_face(
    image: np.ndarray, face: Face, crop: FaceCrop
) -> tuple[np.ndarray, np.ndarray | None]:
    """Crops or aligns a face as data sets store it.

    Args:
      image: uint8[H, W, 3].
      face: its box, and landmarks in pixels or None.
      crop: the data set's.

    Returns:
      uint8[S, S, 3], and the landmarks as shares of its side, float32[5, 2] or None.
    """
    side = crop.longest_side
    if crop.method == "align" and face.landmarks is not None and are_distinct(face.landmarks):
        points = np.asarray(face.landmarks, np.float64)
        return align(image, points, side), aligned_landmarks(points, side)
    left, top, length = crop_origin(face.box, crop.margin)
    square = crop_square(image, face.box, crop.margin)
    landmarks = landmark_shares(face.landmarks, (left, top), (length, length))
    if crop.method == "align":
        return cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA), landmarks
    return shrink(square, side), landmarks


def frame_box(
    image: np.ndarray,
    box: Box,
    landmarks: np.ndarray | None,
    size: int,
    margin: float | None,
    mask: str,
) -> np.ndarray:
    """Crops an image to a box, unless `margin` is None, resizes and masks it.

    Args:
      image: uint8[H, W, 3].
      box: of the face.
      landmarks: float[5, 2], shares of the width and height of `image`; None or NaN if unknown.
      size: side of the result.
      margin: added on each side, as a share of the box's longer side.
      mask: as in `Framing`.

    Returns:
      uint8[size, size, 3].
    """
    if margin is None:
        return fit_face(image, size, mask, landmarks)
    if landmarks is not None:
        height, width = image.shape[:2]
        left, top, side = crop_origin(box, margin)
        landmarks = (np.asarray(landmarks, np.float64) * (width, height) - (left, top)) / side
    return fit_face(crop_square(image, box, margin), size, mask, landmarks)


def fit_face(image: np.ndarray, size: int, mask: str, landmarks: np.ndarray | None) -> np.ndarray:
    """Resizes and masks a face. Downscaling averages areas.

    Args:
      image: uint8[H, W, 3], the face.
      size: side of the result.
      mask: as in `Framing`.
      landmarks: float[5, 2], shares of the width and height; None or NaN if unknown.

    Returns:
      uint8[size, size, 3].
    """
    if image.shape[:2] != (size, size):
        method = cv2.INTER_AREA if min(image.shape[:2]) > size else cv2.INTER_CUBIC
        image = cv2.resize(image, (size, size), interpolation=method)
    if mask == "none":
        return image
    inside = ellipse_mask(size, landmarks if mask == "landmarks" else None)
    return np.where(inside[..., None], image, np.uint8(0))


def ellipse_mask(size: int, landmarks: np.ndarray | None) -> np.ndarray:
    """Returns the mask of the face in a square crop.

    With landmarks, the ellipse follows the line from the eyes to the mouth, in the proportions of
    an average head to insightface's five points. Without them, it is the ellipse that a face
    fills in a detector's box.

    Args:
      size: side of the crop, pixels.
      landmarks: float[5, 2], shares of the side; None or NaN if unknown.

    Returns:
      bool[size, size], True inside the ellipse.
    """
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size
    center, axes, down = np.array(_ELLIPSE_CENTER), np.array(_ELLIPSE_AXES), np.array([0.0, 1.0])
    if landmarks is not None and np.isfinite(landmarks).all():
        points = np.asarray(landmarks, np.float64)
        eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
        length = float(np.hypot(*(mouth - eyes)))
        if length > 0:
            down = (mouth - eyes) / length
            center = eyes + _EYES_TO_CENTER * (mouth - eyes)
            axes = length * np.array(_LANDMARK_AXES)
    offset = np.stack([columns - center[0], rows - center[1]], axis=-1)
    along, across = offset @ down, offset @ np.array([down[1], -down[0]])
    return np.asarray((across / axes[0]) ** 2 + (along / axes[1]) ** 2 <= 1.0)


def landmark_shares(
    points: Any, origin: tuple[int, int], size: tuple[int, int]
) -> np.ndarray | None:
    """Converts pixel indices to shares of a region of the image, float32[5, 2]; None stays."""
    if points is None:
        return None
    return ((np.asarray(points, np.float64) + 0.5 - origin) / size).astype(np.float32)
