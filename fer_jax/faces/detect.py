"""Detects faces with MTCNN, with OpenCV's Haar cascades (Viola and Jones, 2001) or with YuNet.

The paper uses the cascades, which ship with OpenCV; they miss many small, turned and shaded faces
of ordinary photos. MTCNN finds those. YuNet is a small network; the user brings its file. `crop`
chooses and crops one of the faces.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from fer_jax.errors import UserError
from fer_jax.faces.mtcnn import MAX_SHARED, Mtcnn, suppress

HAAR, HAAR_FRONTAL, MTCNN = "haar", "haar_frontal", "mtcnn"
"""Names of detectors; any other is the path of a YuNet model."""

_WORK_SIZE = 320  # pixels; finds every face of a fifth of the side, ten times faster than 762
_MIN_SIDE = 20  # pixels; the cascades' windows
_SCALE_STEP = 1.1
_FRONTAL_NEIGHBORS = 5
_PROFILE_NEIGHBORS = 4
_FRONTAL = "haarcascade_frontalface_default.xml"
_PROFILE = "haarcascade_profileface.xml"  # trained on faces that look to the left of the image
_YUNET_SCORE = 0.6  # OpenCV's sample has 0.9, which misses turned faces
_YUNET_URL = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"


@dataclasses.dataclass(frozen=True)
class Face:
    """The location of a face.

    Attributes:
      box: x, y, width, height in pixels, inside the image.
      source: how the face was found: "mtcnn", "haar", "profile", "yunet", "view", "whole",
        "shipped" (the set's box, or an image that ships cropped) or "aligned" (by its landmarks).
      landmarks: x and y of the five points in pixels of the image; None if unknown.
    """

    box: tuple[int, int, int, int]
    source: str
    landmarks: tuple[tuple[float, float], ...] | None = None


class Detector(Protocol):
    """A face detector; not safe for use from several threads."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces of `image` (uint8[H, W, 3], RGB), the largest first."""
        ...


class HaarDetector:
    """OpenCV's frontal cascade, then its profile cascade if that finds no face."""

    def __init__(self, min_share: float = 0.2, *, profile: bool = True):
        """Loads the cascades.

        Args:
          min_share: smallest face side, as a share of the image's shorter side.
          profile: whether to try the profile cascade if no frontal face is found.
        """
        self._min_share = min_share
        self._frontal = _load_cascade(_FRONTAL)
        self._profile = _load_cascade(_PROFILE) if profile else None

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces of `image` (uint8[H, W, 3], RGB), the largest first."""
        height, width = image.shape[:2]
        smallest = max(1.0, self._min_share * min(height, width))
        scale = min(1.0, max(_WORK_SIZE / max(height, width), _MIN_SIDE / smallest))
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if scale < 1.0:
            gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        gray = cv2.equalizeHist(gray)
        boxes, source = self._find(gray)
        boxes = boxes[np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")] / scale
        return [Face(clip(box, width, height), source) for box in boxes]

    def _find(self, gray: np.ndarray) -> tuple[np.ndarray, str]:
        smallest = max(_MIN_SIDE, int(self._min_share * min(gray.shape)))
        boxes, counts = _run(self._frontal, gray, _FRONTAL_NEIGHBORS, smallest)
        if len(boxes) or self._profile is None:
            return _merge(boxes, counts), "haar"
        left, left_counts = _run(self._profile, gray, _PROFILE_NEIGHBORS, smallest)
        flipped = cv2.flip(gray, 1)
        right, right_counts = _run(self._profile, flipped, _PROFILE_NEIGHBORS, smallest)
        right[:, 0] = gray.shape[1] - right[:, 0] - right[:, 2]
        counts = np.concatenate([left_counts, right_counts])
        return _merge(np.concatenate([left, right]), counts), "profile"


class MtcnnDetector:
    """MTCNN (Zhang et al., 2016); also finds landmarks. Its boxes span forehead to chin."""

    def __init__(self, min_share: float = 0.2):
        """Loads the networks.

        Args:
          min_share: smallest face side, as a share of the image's shorter side.
        """
        self._networks = Mtcnn(min_share)

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces of `image` (uint8[H, W, 3], RGB), the largest first."""
        height, width = image.shape[:2]
        return [
            Face(clip(box, width, height), MTCNN, tuple((float(x), float(y)) for x, y in points))
            for box, points in zip(*self._networks.find(image), strict=True)
        ]


class YuNetDetector:
    """YuNet (Wu et al., 2023) through `cv2.FaceDetectorYN`; also finds landmarks."""

    def __init__(self, model: str | Path, min_share: float = 0.2):
        """Loads the model.

        Args:
          model: an .onnx file, not part of this project.
          min_share: smallest face side, as a share of the image's shorter side.

        Raises:
          UserError: The file is missing, or OpenCV cannot use it as YuNet.
        """
        self._min_share = min_share
        path = Path(model).expanduser()
        if not path.is_file():
            raise UserError(
                f"expected a face detector: {MTCNN}, {HAAR}, {HAAR_FRONTAL} or the file of a YuNet "
                f"model, found no file {model}; face_detection_yunet_2023mar.onnx is at "
                f"{_YUNET_URL}"
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
        _, detections = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        rows = np.zeros((0, 15)) if detections is None else detections / scale
        faces = [_yunet_face(row, width, height) for row in rows]
        smallest = self._min_share * min(height, width)
        large = [face for face in faces if max(face.box[2:]) >= smallest]
        return sorted(large, key=lambda face: -face.box[2] * face.box[3])


def clip(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """Clips a box (x, y, width, height) to an image; in whole pixels, never empty."""
    x = min(max(0, round(float(box[0]))), width - 1)
    y = min(max(0, round(float(box[1]))), height - 1)
    right = min(width, round(float(box[0] + box[2])))
    bottom = min(height, round(float(box[1] + box[3])))
    return x, y, max(1, right - x), max(1, bottom - y)


def _yunet_face(row: np.ndarray, width: int, height: int) -> Face:
    """Converts x, y, width, height, five points (the person's right eye first) and a score."""
    points = tuple((float(x), float(y)) for x, y in row[4:14].reshape(5, 2))
    return Face(clip(row[:4], width, height), "yunet", points)


def _load_cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(os.path.join(os.path.dirname(cv2.__file__), "data", name))
    if cascade.empty():
        raise RuntimeError(f"OpenCV's {name} is missing: opencv-python-headless 4.x ships it")
    return cascade


def _run(
    cascade: cv2.CascadeClassifier, gray: np.ndarray, neighbors: int, smallest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns int[N, 4] boxes, and from how many detections each was merged; N may be 0."""
    boxes, counts = cascade.detectMultiScale2(
        gray,
        scaleFactor=_SCALE_STEP,
        minNeighbors=neighbors,
        minSize=(smallest, smallest),
    )
    return np.array(boxes, np.int64).reshape(-1, 4), np.array(counts, np.int64).reshape(-1)


def _merge(boxes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Keeps one box of each face: the one with the most detections."""
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return boxes[suppress(corners, counts, MAX_SHARED, of_smaller=True)]
