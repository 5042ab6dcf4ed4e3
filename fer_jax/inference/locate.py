"""Where the faces of a picture are, and their pixels as the run's data set has them.

The one place that decides how prediction cuts faces: detector, margin and framing are
those of the data that the run was trained on. It reads no files and runs no network.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from fer_jax.data.preprocess import Preprocessing
from fer_jax.faces import detect as faces
from fer_jax.run_dir import Run

Choice = Literal["largest", "all"]
"""Which of the faces of a picture are wanted."""

LEAST_SHARE = 0.1
"""Smallest face side, as a share of the picture's shorter side. Portraits of the data sets have
larger ones, but people in the background of a photo have not."""

_TO_STORED_BOX = {"haar": (0.0, 0.105, 0.9), "profile": (0.0, 0.094, 0.73)}
"""From the detector's box to the one that a set of whole pictures stores: moves of the centre to
the right and down, and the longer side, as shares of the detector's longer side. Medians over the
validation split of synthetic_faces/demo, the only such set: its boxes are tight and go by the
head model, and a network is 30 points worse on faces that are cut otherwise."""

_PLAIN_CROP = faces.FaceCrop()
"""How faces are cut for a run whose data does not say: whole pictures, or runs of format 2."""


@dataclasses.dataclass(frozen=True, eq=False)
class Located:
    """A face that was found.

    Attributes:
      box: x, y, width, height in pixels of the picture.
      found: how: "haar", "profile", or "whole" where the whole picture is taken for a face.
      pixels: uint8[S, S, 3] RGB, as the network takes it.
      square: x, y and side of what `pixels` shows; it may reach over the picture's border.
    """

    box: tuple[int, int, int, int]
    found: str
    pixels: np.ndarray
    square: tuple[int, int, int]


class FaceFinder:
    """Finds faces and cuts them as a run's training data; one instance serves one thread.

    Args:
      run: gives size, margin and framing.
      least_share: smallest face side, as a share of the picture's shorter side.
    """

    def __init__(self, run: Run, least_share: float = LEAST_SHARE) -> None:
        self._preprocessing = run.preprocessing
        self._crop = crop_of(run)
        self._detector = dataclasses.replace(self._crop, min_share=least_share).make_detector()

    def find(
        self, image: np.ndarray, choice: Choice = "largest", whole: bool = True
    ) -> list[Located]:
        """The faces of a picture, the largest first.

        Args:
          image: uint8[H, W, 3] RGB.
          choice: the largest face only, or all.
          whole: take the whole picture for a face where none is found, as the builders do.
        """
        found = self._detect(image)
        if not found and whole:
            height, width = image.shape[:2]
            found = [faces.Face((0, 0, width, height), "whole")]
        wanted = found if choice == "all" else found[:1]
        return [self._cut(image, face) for face in wanted]

    def _detect(self, image: np.ndarray) -> list[faces.Face]:
        found = self._detector.detect(image)
        if self._preprocessing.face_margin is None:
            return found
        return [_as_stored(face, image.shape[1], image.shape[0]) for face in found]

    def _cut(self, image: np.ndarray, face: faces.Face) -> Located:
        margin, crop = self._preprocessing.face_margin, self._crop
        square = faces.crop_origin(face.box, crop.margin if margin is None else margin)
        points = None if face.landmarks is None else np.array(face.landmarks)
        if margin is not None:
            shares = None if points is None else points / (image.shape[1], image.shape[0])
            pixels = self._preprocessing.framed(image, face.box, shares)
        elif crop.method == "align" and points is not None:
            stored = faces.align(image, points, crop.longest_side)
            pixels = framed_whole(self._preprocessing, stored, faces.ALIGNED_SHARES)
        else:
            stored = faces.shrink(
                faces.crop_square(image, face.box, crop.margin), crop.longest_side
            )
            shares = None if points is None else (points - square[:2]) / square[2]
            pixels = framed_whole(self._preprocessing, stored, shares)
        return Located(face.box, face.source, pixels, square)


def crop_of(run: Run) -> faces.FaceCrop:
    """How the faces of the run's training data were cut.

    A set that ships its faces cut, or with boxes, says nothing of a photo: there the detector
    looks, and what it finds is cut with the margin of those settings.
    """
    stored = run.data.get("crop")
    return faces.FaceCrop.from_json(stored) if stored else _PLAIN_CROP


def description(run: Run) -> dict[str, Any]:
    """How `FaceFinder` finds and cuts a run's faces, for programs that do it without fer_jax."""
    margin, crop = run.preprocessing.face_margin, crop_of(run)
    return {
        "trained_on": crop.to_json(),
        "detector": "OpenCV's haarcascade_frontalface_default.xml on the equalized grey picture, "
        "no side above 320 pixels; scale factor 1.1, 5 neighbours",
        "margin": crop.margin if margin is None else margin,
        "box_change": None if margin is None else _TO_STORED_BOX["haar"],
        "longest_side": crop.longest_side if margin is None else None,
        "none_found": "the whole picture",
    }


def framed_whole(
    preprocessing: Preprocessing, face: np.ndarray, landmarks: np.ndarray | None = None
) -> np.ndarray:
    """A picture that is cut to its face already, as network input: uint8[S, S, 3].

    Args:
      preprocessing: of the run.
      face: uint8[H, W, 3] RGB.
      landmarks: float[5, 2], shares of its width and height, if they are known.
    """
    uncut = dataclasses.replace(preprocessing, face_margin=None)
    return uncut.framed(face, (0, 0, face.shape[1], face.shape[0]), landmarks)


def _as_stored(face: faces.Face, width: int, height: int) -> faces.Face:
    """The box of a detector as the data set would have it, inside the picture."""
    right, down, share = _TO_STORED_BOX.get(face.source, (0.0, 0.0, 1.0))
    x, y, wide, high = face.box
    longer = max(wide, high)
    side = max(1, round(share * longer))
    left = round(x + wide / 2 + right * longer - side / 2)
    top = round(y + high / 2 + down * longer - side / 2)
    box_x, box_y = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    box = box_x, box_y, min(left + side, width) - box_x, min(top + side, height) - box_y
    return dataclasses.replace(face, box=box)
