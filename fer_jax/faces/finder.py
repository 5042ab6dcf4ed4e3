"""Finds the faces of photos and frames them for a network, as `Framing` describes.

Prediction, the page and exported files use it. It reads no files and runs no classifier.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np

from fer_jax.faces.crop import shrink
from fer_jax.faces.detect import Face
from fer_jax.faces.framing import Framing

Choice = Literal["largest", "all", "whole"]
"""Which faces of an image to return; "whole": the image is cropped to a face already."""

CHOICES: tuple[Choice, ...] = get_args(Choice)

GIVEN = "given"
"""`found` of a face that was not detected, because the caller said that the image is one."""

MIN_SHARE = 0.1
"""Smallest face side, as a fraction of the image's shorter side. Lower than for the data sets'
portraits, because photos also show people in the background."""

_WHOLE_SIDE = 4096  # pixels; a larger image without a face is reduced before it is padded


@dataclasses.dataclass(frozen=True, eq=False)
class LocatedFace:
    """A face before classification.

    Attributes:
      box: x, y, width, height in pixels of the image.
      found: detector that found the face, "mtcnn", "haar", "profile" or "yunet"; "whole" if no
        face was detected and the whole image is used; "given" if the image is a face already.
      pixels: uint8[S, S, 3] RGB, the network's input before normalization.
      square: x, y and side of the image region shown in `pixels`; may extend past the border.
      landmarks: x and y of the five points in pixels of the image: left and right eye, nose tip,
        left and right corner of the mouth, where left is the left of the image; None if the
        detector finds none.
    """

    box: tuple[int, int, int, int]
    found: str
    pixels: np.ndarray
    square: tuple[int, int, int]
    landmarks: tuple[tuple[float, float], ...] | None = None


class FaceFinder:
    """Detects faces and frames them. Not thread-safe.

    Args:
      framing: of the network.
      min_share: smallest face side, as a fraction of the image's shorter side.
      detector: a `FaceCrop.detector`; None for the one of `framing`.

    Raises:
      UserError: `detector` is no detector.
    """

    def __init__(
        self, framing: Framing, min_share: float = MIN_SHARE, detector: str | None = None
    ) -> None:
        self.framing = framing
        self._detector = dataclasses.replace(
            framing.crop, min_share=min_share, detector=detector or framing.detector
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
        height, width = image.shape[:2]
        whole = (0, 0, width, height)
        if choice == "whole":
            pixels = self.framing.frame_whole(image)
            return [LocatedFace(whole, GIVEN, pixels, self.framing.whole_square(width, height))]
        detected = self.detect(image)
        if not detected and whole_image:
            detected = [Face(whole, "whole")]
        chosen = detected if choice == "all" else detected[:1]
        return [self._frame(image, face) for face in chosen]

    def detect(self, image: np.ndarray) -> list[Face]:
        """Returns the faces of uint8[H, W, 3], largest first, with boxes of the data set."""
        height, width = image.shape[:2]
        found = self._detector.detect(image)
        return [self.framing.adapted(face, width, height) for face in found]

    def _frame(self, image: np.ndarray, face: Face) -> LocatedFace:
        square, box, landmarks = self.framing.square(face.box), face.box, face.landmarks
        if face.source == "whole" and max(image.shape) > _WHOLE_SIDE:
            image = shrink(image, _WHOLE_SIDE)
            face = Face((0, 0, image.shape[1], image.shape[0]), "whole")
        return LocatedFace(box, face.source, self.framing.frame(image, face), square, landmarks)
