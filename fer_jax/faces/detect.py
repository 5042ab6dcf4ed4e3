"""Finds the face in a picture and cuts a square around it, or aligns it by its landmarks.

OpenCV's Haar cascades (Viola and Jones), the paper's method: frontal first, then
profile in both directions, then the box that fits the camera view, and the whole
picture last, so that no picture is ever lost for want of a face. Or YuNet, a small
network of OpenCV's, from a file that the user brings. `FaceCrop` says which of it, and
is stored with a run, so that prediction cuts as training did. It does not read
pictures, resize for a network or mask; numpy and OpenCV only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from fer_jax.errors import UserError

RelativeBox = tuple[float, float, float, float]
"""x, y, width, height as shares of the picture's width and height."""

Landmarks = np.ndarray
"""float[5, 2], x and y in pixels: left eye, right eye, nose tip, left and right corner of the
mouth; left is the picture's left. The order of insightface, YuNet and RAF-DB."""

METHODS = ("detect", "shipped", "keep", "align")
FALLBACKS = ("view", "whole")
HAAR, HAAR_FRONTAL = "haar", "haar_frontal"  # any other detector is a YuNet file

_WORK_SIZE = 320  # pixels; finds every face of a fifth of the side, ten times faster than 762
_SCALE_STEP = 1.1
_FRONTAL_NEIGHBOURS = 5
_PROFILE_NEIGHBOURS = 4
_FRONTAL = "haarcascade_frontalface_default.xml"
_PROFILE = "haarcascade_profileface.xml"  # trained on faces that look to the picture's left
_YUNET_SCORE = 0.6  # the default of OpenCV's sample is 0.9, which misses turned faces
_YUNET_URL = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"

# Where the five points lie in an aligned face of 112 pixels: insightface's arcface_src
# (deepinsight/insightface, python-package/insightface/utils/face_align.py).
_ALIGNED_SIDE = 112
_ALIGNED = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip

ALIGNED_SHARES = _ALIGNED / _ALIGNED_SIDE
"""Where they lie in an aligned face of any size: float[5, 2], shares of its side."""


@dataclasses.dataclass(frozen=True)
class Face:
    """Where a face is.

    Attributes:
      box: x, y, width, height in pixels of the picture; inside it.
      source: How it was found: "haar", "profile", "yunet", "view", "whole", "shipped" (the
        set's own box, or a picture that was cut before) or "aligned" (by its landmarks).
      landmarks: The five points, x and y in pixels of the picture; None if not known.
    """

    box: tuple[int, int, int, int]
    source: str
    landmarks: tuple[tuple[float, float], ...] | None = None


@dataclasses.dataclass(frozen=True)
class FaceCrop:
    """How faces are cut out of a set's pictures; stored with the set and with every run.

    Attributes:
      margin: Added around the face on each side, as a share of its box's longer side.
      min_share: Smallest face accepted, as a share of the picture's shorter side.
      detector: "haar" (frontal cascade, then profile), "haar_frontal", or the path of a YuNet
        model (.onnx).
      fallback: Where nothing is found: "view" (the box that fits the camera's view, if that is
        known, else the whole picture) or "whole".
      method: "detect" looks for the face; "shipped" takes the set's own box, and looks where
        there is none; "keep" takes pictures that are face crops already as they are; "align"
        puts five landmarks where insightface has them, and looks where there are none.
      longest_side: Crops are stored no larger than this, in pixels; aligned ones exactly so.
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
        for name, number, least, most in (
            ("margin", self.margin, 0, 2),
            ("min_share", self.min_share, 0, 1),
            ("longest_side", self.longest_side, 16, 4096),
            ("quality", self.quality, 1, 100),
        ):
            if not least <= number <= most:
                raise ValueError(f"expected {name} from {least} to {most}, found {number}")

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> FaceCrop:
        """Reads back what `to_json` gave."""
        return cls(**stored)

    def digest(self) -> str:
        """Eight hex digits that tell settings apart; a detector's file counts by its name."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def make_detector(self) -> Detector:
        """A detector of these settings, for one thread.

        Raises:
          UserError: The detector is a file that is missing or no YuNet model.
        """
        if self.detector in (HAAR, HAAR_FRONTAL):
            return HaarDetector(self.min_share, profile=self.detector == HAAR)
        return YuNetDetector(self.detector, self.min_share)


class Detector(Protocol):
    """Anything that finds faces; one instance serves one thread."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces of `image` (uint8[H, W, 3], RGB), the largest first."""
        ...


class HaarDetector:
    """OpenCV's frontal cascade, and its profile cascade where that finds nothing."""

    def __init__(self, min_share: float = 0.2, *, profile: bool = True):
        """Loads the cascades.

        Args:
          min_share: Smallest face side, as a share of the picture's shorter side.
          profile: Whether to look for profiles where no frontal face is found.
        """
        self._min_share = min_share
        self._frontal = _load_cascade(_FRONTAL)
        self._profile = _load_cascade(_PROFILE) if profile else None

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces of `image` (uint8[H, W, 3], RGB), the largest first."""
        height, width = image.shape[:2]
        scale = min(1.0, _WORK_SIZE / max(height, width))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if scale < 1.0:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = cv2.equalizeHist(grey)
        boxes, source = self._find(grey)
        boxes = boxes[np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")] / scale
        return [Face(clip(box, width, height), source) for box in boxes]

    def _find(self, grey: np.ndarray) -> tuple[np.ndarray, str]:
        smallest = max(20, int(self._min_share * min(grey.shape)))
        boxes = _run(self._frontal, grey, _FRONTAL_NEIGHBOURS, smallest)
        if len(boxes) or self._profile is None:
            return boxes, "haar"
        left = _run(self._profile, grey, _PROFILE_NEIGHBOURS, smallest)
        right = _run(self._profile, cv2.flip(grey, 1), _PROFILE_NEIGHBOURS, smallest)
        right[:, 0] = grey.shape[1] - right[:, 0] - right[:, 2]
        return np.concatenate([left, right]), "profile"


class YuNetDetector:
    """YuNet (Wu et al., 2023) through `cv2.FaceDetectorYN`; finds landmarks too."""

    def __init__(self, model: str | Path, min_share: float = 0.2):
        """Loads the model.

        Args:
          model: An .onnx file, which is not part of this project.
          min_share: Smallest face side, as a share of the picture's shorter side.

        Raises:
          UserError: No such file, or one that OpenCV cannot use as YuNet.
        """
        self._min_share = min_share
        path = Path(model).expanduser()
        if not path.is_file():
            raise UserError(
                f"expected a face detector: {HAAR}, {HAAR_FRONTAL} or the file of a YuNet model, "
                f"found no file {model}; face_detection_yunet_2023mar.onnx is at {_YUNET_URL}"
            )
        try:
            self._network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), _YUNET_SCORE)
            self._network.detect(np.zeros((320, 320, 3), np.uint8))
        except (cv2.error, SystemError) as error:
            first = str(error).strip().split("\n")[0]
            raise UserError(
                f"expected a YuNet model in {path}, found a file that OpenCV cannot use as one "
                f"({first}); face_detection_yunet_2023mar.onnx is at {_YUNET_URL}"
            ) from error

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces of `image` (uint8[H, W, 3], RGB), the largest first."""
        height, width = image.shape[:2]
        scale = min(1.0, _WORK_SIZE / max(height, width))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._network.setInputSize((small.shape[1], small.shape[0]))
        _, found = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        rows = np.zeros((0, 15)) if found is None else found / scale
        faces = [_yunet_face(row, width, height) for row in rows]
        smallest = self._min_share * min(height, width)
        large = [face for face in faces if max(face.box[2:]) >= smallest]
        return sorted(large, key=lambda face: -face.box[2] * face.box[3])


def find_face(
    image: np.ndarray,
    detector: Detector,
    view_box: RelativeBox | None = None,
    fallback: str = "view",
) -> Face:
    """The one face of a portrait: the largest found, else the view's box, else everything.

    Where the view is known, what is found elsewhere (a wall, a collar) is not the face.

    Args:
      image: uint8[H, W, 3], RGB.
      detector: What looks for faces.
      view_box: Where faces lie in pictures of this camera view, if that is known.
      fallback: Where nothing is found: "view", or "whole" even where the view is known.
    """
    height, width = image.shape[:2]
    found = detector.detect(image)
    whole = Face((0, 0, width, height), "whole")
    if view_box is None:
        return found[0] if found else whole
    view = clip(np.array(view_box) * (width, height, width, height), width, height)
    there = [face for face in found if _has_centre_in(face.box, view)]
    if there:
        return there[0]
    return Face(view, "view") if fallback == "view" else whole


def crop_square(
    image: np.ndarray, box: tuple[int, int, int, int], margin: float = 0.0
) -> np.ndarray:
    """Cuts the square around a box; beyond the picture's border its edge is repeated.

    Args:
      image: uint8[H, W, 3].
      box: x, y, width, height in pixels.
      margin: Added on each side, as a share of the box's longer side.

    Returns:
      uint8[S, S, 3], S = the longer side of the box with its margins.
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


def crop_origin(box: tuple[int, int, int, int], margin: float) -> tuple[int, int, int]:
    """Left, top and side, in pixels of the picture, of what `crop_square` cuts."""
    x, y, width, height = box
    side = max(1, round(max(width, height) * (1.0 + 2.0 * margin)))
    return round(x + width / 2 - side / 2), round(y + height / 2 - side / 2), side


def alignment(landmarks: Landmarks, side: int) -> np.ndarray:
    """The similarity that puts five landmarks where insightface has them.

    Least squares over rotation, one scale and shift (Umeyama, 1991).

    Args:
      landmarks: float[5, 2], pixels of the picture.
      side: Of the aligned face, pixels; insightface's is 112, others are scaled from it.

    Returns:
      float64[2, 3], from picture to aligned face, for `cv2.warpAffine`.
    """
    source = np.asarray(landmarks, np.float64)
    target = (_ALIGNED + 0.5) * (side / _ALIGNED_SIDE) - 0.5  # pixel centres, as in a resize
    # As complex numbers a similarity is one factor and one shift: no reflection can come out.
    one, other = (points @ np.array([1.0, 1.0j]) for points in (source, target))
    moved = one - one.mean()
    spread = float((np.abs(moved) ** 2).sum())
    if spread == 0.0:
        raise ValueError("expected five landmarks, found them all in one place")
    factor = complex((moved.conj() * (other - other.mean())).sum() / spread)
    shift = other.mean() - factor * one.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def align(image: np.ndarray, landmarks: Landmarks, side: int) -> np.ndarray:
    """The face of `image` (uint8[H, W, 3]) as uint8[side, side, 3], its eyes level.

    Beyond the picture's border its edge is repeated.
    """
    matrix = alignment(landmarks, side)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:  # a warp samples; a large face has to be averaged first, or it flickers
        half = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        factors = np.array([half.shape[1] / image.shape[1], half.shape[0] / image.shape[0]])
        image, landmarks = half, (np.asarray(landmarks) + 0.5) * factors - 0.5
        matrix = alignment(landmarks, side)
    return cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def shrink(image: np.ndarray, longest_side: int) -> np.ndarray:
    """Makes `image` (uint8[H, W, 3]) no longer than `longest_side` pixels; never enlarges."""
    height, width = image.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1.0:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _yunet_face(row: np.ndarray, width: int, height: int) -> Face:
    """From x, y, width, height, five points (right eye of the person first) and a score."""
    points = tuple((float(x), float(y)) for x, y in row[4:14].reshape(5, 2))
    return Face(clip(row[:4], width, height), "yunet", points)


def _load_cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(os.path.join(os.path.dirname(cv2.__file__), "data", name))
    if cascade.empty():
        raise RuntimeError(f"OpenCV's {name} is missing: opencv-python-headless 4.x ships it")
    return cascade


def _run(
    cascade: cv2.CascadeClassifier, grey: np.ndarray, neighbours: int, smallest: int
) -> np.ndarray:
    """int[N, 4] boxes; N is 0 where nothing was found."""
    found = cascade.detectMultiScale(
        grey,
        scaleFactor=_SCALE_STEP,
        minNeighbors=neighbours,
        minSize=(smallest, smallest),
    )
    return np.array(found, np.int64).reshape(-1, 4)


def _has_centre_in(box: tuple[int, int, int, int], frame: tuple[int, int, int, int]) -> bool:
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    inside_x = frame[0] <= x <= frame[0] + frame[2]
    return inside_x and frame[1] <= y <= frame[1] + frame[3]


def clip(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The part of a box (x, y, width, height) inside a picture, in whole pixels, at least one."""
    x = min(max(0, round(float(box[0]))), width - 1)
    y = min(max(0, round(float(box[1]))), height - 1)
    right = min(width, round(float(box[0] + box[2])))
    bottom = min(height, round(float(box[1] + box[3])))
    return x, y, max(1, right - x), max(1, bottom - y)
