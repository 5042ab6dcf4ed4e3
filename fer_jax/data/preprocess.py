"""Pixels to network input: the part of a run that prediction must repeat exactly.

Stored with every run and read back by whoever uses the run; never retyped.
Framing is here because a network trained on area-averaged faces sees other
edges when prediction resizes in another way.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.data import faces

NORMALIZATIONS = ("unit", "symmetric", "standardize")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a face becomes network input. Channels are RGB.

    Attributes:
      size: side of the square input, pixels.
      normalize: "unit" maps 0..255 to [0, 1], "symmetric" to [-1, 1]; "standardize"
        gives each image zero mean and unit variance, which takes exposure and
        skin tone out of what the network sees.
      face_margin: a picture is cut to the square around its face box, widened on each
        side by this share of the box's longer side; None takes it as it is.
    """

    size: int
    normalize: str
    face_margin: float | None = None

    def __post_init__(self) -> None:
        if self.normalize not in NORMALIZATIONS:
            raise ValueError(
                f"expected one of {', '.join(NORMALIZATIONS)} for data.normalize, "
                f"found {self.normalize!r}"
            )
        if self.size < 4:
            raise ValueError(f"expected data.size of at least 4 pixels, found {self.size}")
        if self.face_margin is not None and not 0 <= self.face_margin <= 2:
            raise ValueError(f"expected data.face_margin in [0, 2], found {self.face_margin}")

    def framed(self, image: np.ndarray, face_box: tuple[int, int, int, int]) -> np.ndarray:
        """Cuts to the face where a margin is given, and resizes; shrinking averages areas.

        Args:
          image: uint8[H, W, 3].
          face_box: x, y, width, height in pixels of `image`.

        Returns:
          uint8[size, size, 3].
        """
        if self.face_margin is not None:
            image = faces.crop_square(image, face_box, self.face_margin)
        if image.shape[:2] == (self.size, self.size):
            return image
        shrinks = min(image.shape[:2]) > self.size
        method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        return cv2.resize(image, (self.size, self.size), interpolation=method)

    def normalized(self, images: jax.Array) -> jax.Array:
        """Maps images [B, H, W, 3] in 0..255 to float32 network input of the same shape."""
        images = images.astype(jnp.float32)
        if self.normalize == "unit":
            return images / 255.0
        if self.normalize == "symmetric":
            return images / 127.5 - 1.0
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        deviation = images.std(axis=(1, 2, 3), keepdims=True)
        # A flat image has no deviation; one grey level keeps it finite.
        return (images - mean) / jnp.maximum(deviation, 1.0)

    def to_json(self) -> dict[str, Any]:
        """As stored with a run; `Preprocessing(**stored)` reads it back."""
        return dataclasses.asdict(self)
