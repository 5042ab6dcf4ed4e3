"""Pixels to network input: the part of a run that prediction must repeat exactly.

Stored with every run and read back by whoever uses the run; never retyped.
Framing is here because a network trained on area-averaged faces sees other
edges when prediction resizes in another way. A network with ported weights sees pixels
as those weights were trained: their `InputFormat` is part of what is stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.faces.crop import crop_origin, crop_square

NORMALIZATIONS = ("unit", "symmetric", "standardize", "weights")
CHANNEL_ORDERS = ("rgb", "bgr")
MASKS = ("none", "ellipse", "landmarks")

# The ellipse of a face in its square crop: centre and half axes as shares of the side.
_ELLIPSE_CENTRE = (0.5, 0.5)
_ELLIPSE_AXES = (0.36, 0.46)
# The same from landmarks, in units of the distance from between the eyes to the mouth's middle:
# brows to chin lie 0.7 above to 1.75 below the eyes, the temples 1.15 to each side.
_EYES_TO_CENTRE = 0.5
_LANDMARK_AXES = (1.15, 1.25)


@dataclasses.dataclass(frozen=True)
class InputFormat:
    """What a pretrained network expects of its input: (pixel * scale - mean) / std.

    Attributes:
      channels: order of the channels, "rgb" or "bgr"; mean and std are in this order.
      scale: of pixels 0..255: 1 keeps their range, 1/255 makes it [0, 1].
      mean: subtracted per channel, after scaling.
      std: divided by per channel.
    """

    channels: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))  # JSON has lists
        object.__setattr__(self, "std", tuple(map(float, self.std)))
        if self.channels not in CHANNEL_ORDERS:
            raise ValueError(f"expected channels rgb or bgr, found {self.channels!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0 or self.scale <= 0:
            raise ValueError(
                "expected three means, three positive deviations and a positive scale, found "
                f"{self.mean}, {self.std} and {self.scale}"
            )

    def applied(self, images: jax.Array) -> jax.Array:
        """Maps RGB float32 [B, H, W, 3] in 0..255 to network input of the same shape."""
        if self.channels == "bgr":
            images = images[..., ::-1]
        mean, std = (
            np.array(numbers, np.float32).reshape(1, 1, 1, 3) for numbers in (self.mean, self.std)
        )
        return (images * np.float32(self.scale) - mean) / std


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a face becomes network input. Faces are RGB.

    Attributes:
      size: side of the square input, pixels.
      normalize: "unit" maps 0..255 to [0, 1], "symmetric" to [-1, 1]; "standardize"
        gives each image zero mean and unit variance, which takes exposure and
        skin tone out of what the network sees; "weights" does as `input_format` says.
      input_format: of the weights that the network began with; None with any other
        normalisation.
      face_margin: a picture is cut to the square around its face box, widened on each
        side by this share of the box's longer side; None takes it as it is.
      mask: what is set to black outside the face, in prediction as in training: "none";
        "ellipse", everything outside one that a face in its crop fills; "landmarks",
        everything outside an ellipse laid through the eyes and the mouth, and "ellipse"
        where a record has no landmarks.
    """

    size: int
    normalize: str
    input_format: InputFormat | None = None
    face_margin: float | None = None
    mask: str = "none"

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
        if self.mask not in MASKS:
            raise ValueError(
                f"expected one of {', '.join(MASKS)} for data.mask, found {self.mask!r}"
            )
        if (self.normalize == "weights") != (self.input_format is not None):
            raise ValueError(
                "expected pretrained weights with data.normalize='weights', and only with it, "
                f"found {'none' if self.input_format is None else 'some'} with {self.normalize!r}"
            )

    @property
    def framing(self) -> str:
        """All that `framed` depends on, as text."""
        return f"{self.size} {self.face_margin} {self.mask}"

    def framed(
        self,
        image: np.ndarray,
        face_box: tuple[int, int, int, int],
        landmarks: np.ndarray | None = None,
    ) -> np.ndarray:
        """Cuts to the face where a margin is given, resizes and masks; shrinking averages areas.

        Args:
          image: uint8[H, W, 3].
          face_box: x, y, width, height in pixels of `image`.
          landmarks: float[5, 2], shares of the width and height of `image`; None or NaN where
            unknown. Only the mask "landmarks" looks at them.

        Returns:
          uint8[size, size, 3].
        """
        points = None if landmarks is None else np.asarray(landmarks, np.float64)
        if self.face_margin is not None:
            if points is not None:
                height, width = image.shape[:2]
                left, top, side = crop_origin(face_box, self.face_margin)
                points = (points * (width, height) - (left, top)) / side
            image = crop_square(image, face_box, self.face_margin)
        if image.shape[:2] != (self.size, self.size):
            shrinks = min(image.shape[:2]) > self.size
            method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            image = cv2.resize(image, (self.size, self.size), interpolation=method)
        if self.mask == "none":
            return image
        inside = ellipse_mask(self.size, points if self.mask == "landmarks" else None)
        return np.where(inside[..., None], image, np.uint8(0))

    def normalized(self, images: jax.Array) -> jax.Array:
        """Maps images [B, H, W, 3] in 0..255 to float32 network input of the same shape."""
        images = images.astype(jnp.float32)
        if self.normalize == "unit":
            return images / 255.0
        if self.normalize == "symmetric":
            return images / 127.5 - 1.0
        if self.input_format is not None:
            return self.input_format.applied(images)
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        deviation = images.std(axis=(1, 2, 3), keepdims=True)
        # A flat image has no deviation; one grey level keeps it finite.
        return (images - mean) / jnp.maximum(deviation, 1.0)

    def to_json(self) -> dict[str, Any]:
        """As stored with a run."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Preprocessing:
        """Reads back what `to_json` gave; format 1 has no input_format, format 2 no mask."""
        given = stored.get("input_format")
        input_format = InputFormat(**given) if given is not None else None
        return cls(**{**stored, "input_format": input_format})


def ellipse_mask(size: int, landmarks: np.ndarray | None) -> np.ndarray:
    """Where the face is in a square picture of it.

    With landmarks the ellipse stands upright between the eyes and the mouth of the person,
    in the proportions that insightface's five points have to an average head; without them
    it is the one that a detector's box holds.

    Args:
      size: of the picture, pixels.
      landmarks: float[5, 2], shares of the side; None or NaN where unknown.

    Returns:
      bool[size, size], True inside.
    """
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size
    centre, axes, down = np.array(_ELLIPSE_CENTRE), np.array(_ELLIPSE_AXES), np.array([0.0, 1.0])
    if landmarks is not None and np.isfinite(landmarks).all():
        eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
        length = float(np.hypot(*(mouth - eyes)))
        if length > 0:
            down = (mouth - eyes) / length
            centre = eyes + _EYES_TO_CENTRE * (mouth - eyes)
            axes = length * np.array(_LANDMARK_AXES)
    offset = np.stack([columns - centre[0], rows - centre[1]], axis=-1)
    along, across = offset @ down, offset @ np.array([down[1], -down[0]])
    return np.asarray((across / axes[0]) ** 2 + (along / axes[1]) ** 2 <= 1.0)
