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

from fer_jax.data import faces

NORMALIZATIONS = ("unit", "symmetric", "standardize", "weights")
CHANNEL_ORDERS = ("rgb", "bgr")


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
    """

    size: int
    normalize: str
    input_format: InputFormat | None = None
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
        if (self.normalize == "weights") != (self.input_format is not None):
            raise ValueError(
                "expected pretrained weights with data.normalize='weights', and only with it, "
                f"found {'none' if self.input_format is None else 'some'} with {self.normalize!r}"
            )

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
        """Reads back what `to_json` gave; a run of format 1 has no input_format."""
        given = stored.get("input_format")
        input_format = InputFormat(**given) if given is not None else None
        return cls(**{**stored, "input_format": input_format})
