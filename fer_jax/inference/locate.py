"""Detects faces in an image and crops them like the run's training data.

The only place that decides how prediction crops faces: margin and framing are those of the run's
data set. It reads no files and runs no classifier.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fer_jax.data.preprocess import Preprocessing
from fer_jax.faces.align import ALIGNED_SHARES, align
from fer_jax.faces.crop import FaceCrop, crop_origin, crop_square, pad_square, shrink
from fer_jax.faces.detect import HAAR, HAAR_FRONTAL, MTCNN, Face
from fer_jax.run_dir import Run

Choice = Literal["largest", "all", "whole"]
"""Which faces of an image to return; "whole": the image is cropped to a face already."""

GIVEN = "given"
"""`found` of a face that was not detected, because the caller said that the image is one."""

_WHOLE_SIDE = 4096  # pixels; a larger image without a face is reduced before it is padded

MIN_SHARE = 0.1
"""Smallest face side, as a fraction of the image's shorter side. Lower than for the data sets'
portraits, because photos also show people in the background."""

BoxChange = tuple[float, float, float]
"""Maps a detected box to the box of a data set: shift of the center to the right and down, and the
longer side, as fractions of the detected box's longer side."""

# Medians over the validation split of synthetic_faces/demo, the only set of uncropped images; those
# of MTCNN at 200 pixels, where it finds all 420 faces and the cascades 231. The set's boxes fit
# tightly around the rendered head; without the correction, accuracy drops by 30 points.
_TO_STORED_BOX: Mapping[str, BoxChange] = {
    MTCNN: (0.0, 0.091, 0.855), "haar": (0.0, 0.105, 0.9), "profile": (0.0, 0.094, 0.73),
}  # fmt: skip

# On the same images, the frontal cascade's box seen from MTCNN's (224 faces; interquartile range of
# the side 0.90 to 0.98), and the reverse.
_TO_HAAR: Mapping[str, BoxChange] = {MTCNN: (0.0, -0.008, 0.937)}
_TO_MTCNN: Mapping[str, BoxChange] = {"haar": (0.0, 0.009, 1.067)}

# 1,314 faces that MTCNN found in 1,490 training images of FER2013, whose images FER+ has too. The
# frontal cascade's boxes are these crops up to 3 percent.
_TO_FER: Mapping[str, BoxChange] = {MTCNN: (0.0, -0.011, 0.946)}
_FER = ("fer2013", "ferplus")

_DEFAULT_CROP = FaceCrop()
"""For runs that store no crop settings: data sets of uncropped images, and runs of format 2."""


@dataclasses.dataclass(frozen=True, eq=False)
class LocatedFace:
    """A face before classification.

    Attributes:
      box: x, y, width, height in pixels of the image.
      found: detector that found the face, "mtcnn", "haar", "profile" or "yunet"; "whole" if no
        face was detected and the whole image is used; "given" if the image is a face already.
      pixels: uint8[S, S, 3] RGB, the network's input before normalization.
      square: x, y and side of the image region shown in `pixels`; may extend past the border.
    """

    box: tuple[int, int, int, int]
    found: str
    pixels: np.ndarray
    square: tuple[int, int, int]


class FaceFinder:
    """Detects faces and crops them like a run's training data. Not thread-safe.

    Args:
      run: the run that provides size, margin and framing.
      min_share: smallest face side, as a fraction of the image's shorter side.
      detector: see `FaceCrop.detector`; None chooses `default_detector`.

    Raises:
      UserError: `detector` is no detector.
    """

    def __init__(self, run: Run, min_share: float = MIN_SHARE, detector: str | None = None) -> None:
        self._preprocessing = run.preprocessing
        self._settings = _crop_settings(run)
        self._box_changes = _box_changes(run)
        self._detector = dataclasses.replace(
            self._settings, min_share=min_share, detector=detector or default_detector(run)
        ).make_detector()

    def find(
        self, image: np.ndarray, choice: Choice = "largest", whole_image: bool = True
    ) -> list[LocatedFace]:
        """Returns the faces of an image, largest first.

        Args:
          image: uint8[H, W, 3] RGB.
          choice: the largest face only, all, or the whole image as one face.
          whole_image: use the whole image if no face is detected, like the data set builders.
        """
        if choice == "whole":
            return [self._whole(image)]
        detected = self._detect(image)
        if not detected and whole_image:
            height, width = image.shape[:2]
            detected = [Face((0, 0, width, height), "whole")]
        chosen = detected if choice == "all" else detected[:1]
        return [self._crop(image, face) for face in chosen]

    def _detect(self, image: np.ndarray) -> list[Face]:
        height, width = image.shape[:2]
        changes = self._box_changes
        return [
            _change_box(face, changes[face.source], width, height)
            if face.source in changes
            else face
            for face in self._detector.detect(image)
        ]

    def _whole(self, image: np.ndarray) -> LocatedFace:
        """Frames an image that is a face already, as data sets of such images are stored."""
        height, width = image.shape[:2]
        square = 0, 0, max(width, height)
        stored = shrink(image, self._settings.longest_side)
        if self._settings.method == "pad":
            stored, square = pad_square(stored), crop_origin((0, 0, width, height), 0.0)
        pixels = frame_crop(self._preprocessing, stored)
        return LocatedFace((0, 0, width, height), GIVEN, pixels, square)

    def _crop(self, image: np.ndarray, face: Face) -> LocatedFace:
        margin, settings = self._preprocessing.face_margin, self._settings
        square = crop_origin(face.box, settings.margin if margin is None else margin)
        if face.source == "whole" and max(image.shape) > _WHOLE_SIDE:
            image = shrink(image, _WHOLE_SIDE)
            small = self._crop(image, Face((0, 0, image.shape[1], image.shape[0]), "whole"))
            return dataclasses.replace(small, box=face.box, square=square)
        points = None if face.landmarks is None else np.array(face.landmarks)
        if margin is not None:
            shares = None if points is None else points / (image.shape[1], image.shape[0])
            pixels = self._preprocessing.framed(image, face.box, shares)
        elif settings.method == "align" and points is not None:
            stored = align(image, points, settings.longest_side)
            pixels = frame_crop(self._preprocessing, stored, ALIGNED_SHARES)
        else:
            stored = shrink(crop_square(image, face.box, settings.margin), settings.longest_side)
            shares = None if points is None else (points - square[:2]) / square[2]
            pixels = frame_crop(self._preprocessing, stored, shares)
        return LocatedFace(face.box, face.source, pixels, square)


def default_detector(run: Run) -> str:
    """Returns the detector that prediction uses for a run, a `FaceCrop.detector`.

    MTCNN finds twice as many faces of ordinary photos as the Haar cascades. The cascades remain for
    runs whose training data they cropped, as the paper's protocols do; another detector remains if
    the data set was prepared with it.
    """
    crop = _crop_settings(run)
    is_set = run.data.get("crop") is not None and crop.method == "detect"
    return crop.detector if is_set or crop.detector != HAAR else MTCNN


def describe_cropping(run: Run) -> dict[str, Any]:
    """Describes how a run's faces are detected and cropped, for programs without fer_jax.

    They know two detectors: MTCNN, and OpenCV's frontal cascade.
    """
    margin, crop = run.preprocessing.face_margin, _crop_settings(run)
    uses_haar = default_detector(run) in (HAAR, HAAR_FRONTAL)
    return {
        "trained_on": crop.to_json(),
        "detector": HAAR_FRONTAL if uses_haar else MTCNN,
        "margin": crop.margin if margin is None else margin,
        "box_change": _box_changes(run).get("haar" if uses_haar else MTCNN),
        "align": margin is None and crop.method == "align",
        "longest_side": crop.longest_side if margin is None else None,
        "none_found": "the whole image",
    }


def frame_crop(
    preprocessing: Preprocessing, face: np.ndarray, landmarks: np.ndarray | None = None
) -> np.ndarray:
    """Resizes and masks an image that is already cropped to a face: uint8[S, S, 3].

    Args:
      preprocessing: the run's.
      face: uint8[H, W, 3] RGB.
      landmarks: float[5, 2] as fractions of width and height; None if unknown.
    """
    uncropped = dataclasses.replace(preprocessing, face_margin=None)
    return uncropped.framed(face, (0, 0, face.shape[1], face.shape[0]), landmarks)


def takes_whole_images(run: Run) -> bool:
    """Whether a run's images were stored as the user has them, uncropped.

    Prediction then classifies whole images, unless it is told to detect faces. Published sets
    that ship face crops are different: users of such a run predict photos.
    """
    is_own = run.data["name"].split("/")[0] == "image_folder"
    is_whole = run.preprocessing.face_margin is None
    return is_own and is_whole and _crop_settings(run).method in ("keep", "pad")


def _crop_settings(run: Run) -> FaceCrop:
    """Returns how the faces of the run's training data were cropped.

    For a data set of ready-made crops or boxes, photos still go through a detector, and its boxes
    get the margin of these settings.
    """
    stored = run.data.get("crop")
    return FaceCrop.from_json(stored) if stored else _DEFAULT_CROP


def _box_changes(run: Run) -> Mapping[str, BoxChange]:
    """Returns how detected boxes become those of the run's data, by `Face.source`."""
    crop = _crop_settings(run)
    if run.preprocessing.face_margin is not None:
        return _TO_STORED_BOX
    if crop.method == "keep" and run.data.get("name", "").split("/")[0] in _FER:
        return _TO_FER
    return _TO_MTCNN if crop.detector == MTCNN else _TO_HAAR


def _change_box(face: Face, change: BoxChange, width: int, height: int) -> Face:
    """Moves and scales a detected box, and clips it to the image."""
    right, down, share = change
    x, y, box_width, box_height = face.box
    longer = max(box_width, box_height)
    side = max(1, round(share * longer))
    left = round(x + box_width / 2 + right * longer - side / 2)
    top = round(y + box_height / 2 + down * longer - side / 2)
    box_x, box_y = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    box = box_x, box_y, min(left + side, width) - box_x, min(top + side, height) - box_y
    return dataclasses.replace(face, box=box)
