"""Chooses the face of an image and crops a square around it, as `FaceCrop` configures.

`FaceCrop` is stored with every data set and run, so that prediction crops as training did.
Resizing for a network and masking are done elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from fer_jax.faces.detect import (
    HAAR,
    HAAR_FRONTAL,
    MTCNN,
    Detector,
    Face,
    HaarDetector,
    MtcnnDetector,
    YuNetDetector,
    clip,
)

RelativeBox = tuple[float, float, float, float]
"""x, y, width, height as shares of the image's width and height."""

METHODS = ("detect", "shipped", "keep", "pad", "align")
FALLBACKS = ("view", "whole")


@dataclasses.dataclass(frozen=True)
class FaceCrop:
    """How the faces of a data set are cropped.

    Attributes:
      margin: added around the face on each side, as a share of its box's longer side.
      min_share: smallest face accepted, as a share of the image's shorter side.
      detector: "haar" (frontal cascade, then profile), "haar_frontal", "mtcnn", or the path of a
        YuNet model (.onnx).
      fallback: used if no face is detected: "view" (the box of the camera view if known, else
        the whole image) or "whole".
      method: "detect" runs the detector; "shipped" uses the set's box, or detects if there is
        none; "keep" keeps the whole image, for sets that ship crops; "pad" too, but widens it to a
        square; "align" aligns by five landmarks, or detects if there are none.
      longest_side: largest side of the stored crops in pixels; aligned ones have exactly this
        side.
      quality: JPEG quality of the stored crops, 1 to 100.
    """

    margin: float = 0.1
    min_share: float = 0.3
    detector: str = HAAR
    fallback: str = "view"
    method: str = "detect"
    longest_side: int = 256
    quality: int = 95

    def __post_init__(self) -> None:
        for name, value, known in (
            ("method", self.method, METHODS),
            ("fallback", self.fallback, FALLBACKS),
        ):
            if value not in known:
                raise ValueError(f"expected {' or '.join(known)} for {name}, found {value!r}")
        for name, number, low, high in (
            ("margin", self.margin, 0, 2),
            ("min_share", self.min_share, 0, 1),
            ("longest_side", self.longest_side, 16, 4096),
            ("quality", self.quality, 1, 100),
        ):
            if not low <= number <= high:
                raise ValueError(f"expected {name} from {low} to {high}, found {number}")

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> FaceCrop:
        """Inverse of `to_json`."""
        return cls(**stored)

    def digest(self) -> str:
        """Eight hex digits that identify the settings; a detector file counts by its name."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def make_detector(self) -> Detector:
        """Creates the configured detector, for use in one thread.

        Raises:
          UserError: The detector file is missing or is no YuNet model.
        """
        if self.detector in (HAAR, HAAR_FRONTAL):
            return HaarDetector(self.min_share, profile=self.detector == HAAR)
        if self.detector == MTCNN:
            return MtcnnDetector(self.min_share)
        return YuNetDetector(self.detector, self.min_share)


def find_face(
    image: np.ndarray,
    detector: Detector,
    view_box: RelativeBox | None = None,
    fallback: str = "view",
) -> Face:
    """Returns the one face of a portrait: the largest detection, else a fallback box.

    Args:
      image: uint8[H, W, 3], RGB.
      detector: the face detector.
      view_box: where faces are in images of this camera view, None if unknown. Detections
        centered outside it (on a wall, on a collar) are ignored.
      fallback: "view" returns `view_box` if no face is detected, "whole" the whole image;
        without `view_box` it is always the whole image.
    """
    height, width = image.shape[:2]
    detected = detector.detect(image)
    whole = Face((0, 0, width, height), "whole")
    if view_box is None:
        return detected[0] if detected else whole
    view = clip(np.array(view_box) * (width, height, width, height), width, height)
    inside = [face for face in detected if _is_centered_in(face.box, view)]
    if inside:
        return inside[0]
    return Face(view, "view") if fallback == "view" else whole


def crop_square(
    image: np.ndarray, box: tuple[int, int, int, int], margin: float = 0.0
) -> np.ndarray:
    """Crops the square around a box; pixels outside the image repeat its edge.

    Args:
      image: uint8[H, W, 3].
      box: x, y, width, height in pixels.
      margin: added on each side, as a share of the box's longer side.

    Returns:
      uint8[S, S, 3]; S is the longer side of the box with its margins.
    """
    left, top, side = crop_origin(box, margin)
    rows, columns = image.shape[:2]
    inside = image[max(0, top) : top + side, max(0, left) : left + side]
    return cv2.copyMakeBorder(
        inside,
        max(0, -top),
        max(0, top + side - rows),
        max(0, -left),
        max(0, left + side - columns),
        cv2.BORDER_REPLICATE,
    )


def pad_square(image: np.ndarray) -> np.ndarray:
    """Widens an image (uint8[H, W, 3]) to a square by repeating its edge; a square is returned."""
    height, width = image.shape[:2]
    return image if height == width else crop_square(image, (0, 0, width, height))


def crop_origin(box: tuple[int, int, int, int], margin: float) -> tuple[int, int, int]:
    """Left, top and side of the square that `crop_square` crops, in pixels of the image."""
    x, y, width, height = box
    side = max(1, round(max(width, height) * (1.0 + 2.0 * margin)))
    return round(x + width / 2 - side / 2), round(y + height / 2 - side / 2), side


def shrink(image: np.ndarray, longest_side: int) -> np.ndarray:
    """Resizes `image` (uint8[H, W, 3]) to at most `longest_side` pixels; never enlarges."""
    height, width = image.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1.0:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _is_centered_in(box: tuple[int, int, int, int], frame: tuple[int, int, int, int]) -> bool:
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    inside_x = frame[0] <= x <= frame[0] + frame[2]
    return inside_x and frame[1] <= y <= frame[1] + frame[3]
