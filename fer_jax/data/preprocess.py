"""Preprocessing of faces: cropping, resizing, masking and normalization.

`Preprocessing` is stored with every run, so that evaluation, prediction and export repeat it
exactly. It includes the interpolation method, because edges look different with another one, and
the `InputFormat` of pretrained weights. Random changes of training images are in `augment`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_jax.faces.framing import frame_box

if TYPE_CHECKING:
    import jax

NORMALIZATIONS = ("unit", "symmetric", "standardize", "weights")
CHANNEL_ORDERS = ("rgb", "bgr")
MASKS = ("none", "ellipse", "landmarks")


@dataclasses.dataclass(frozen=True)
class InputFormat:
    """The input normalization of pretrained weights: (pixel * scale - mean) / std.

    Attributes:
      channels: channel order of the input, mean and std: "rgb" or "bgr".
      scale: multiplies pixels 0..255; 1/255 maps them to [0, 1].
      mean: per channel, subtracted after scaling.
      std: per channel, divides after that.
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
    """Maps an RGB image to network input.

    Attributes:
      size: side of the square input, pixels.
      normalize: "unit" maps 0..255 to [0, 1], "symmetric" to [-1, 1]; "standardize" gives each
        image zero mean and unit variance, which removes exposure and skin tone; "weights"
        applies `input_format`.
      input_format: of the pretrained initial weights; None unless `normalize` is "weights".
      face_margin: crops images to the square around the face box, widened on each side by this
        share of the box's longer side; None does not crop.
      mask: which pixels are set to black, in training and in prediction: "none"; "ellipse", those
        outside the ellipse that a face in its crop fills; "landmarks", those outside an ellipse
        placed by the eyes and the mouth ("ellipse" for records without landmarks).
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
        """The settings that `framed` depends on, as text for digests."""
        return f"{self.size} {self.face_margin} {self.mask}"

    def framed(
        self,
        image: np.ndarray,
        face_box: tuple[int, int, int, int],
        landmarks: np.ndarray | None = None,
    ) -> np.ndarray:
        """Crops to the face if `face_margin` is set, resizes and masks. Downscaling averages areas.

        Args:
          image: uint8[H, W, 3].
          face_box: x, y, width, height in pixels of `image`.
          landmarks: float[5, 2], shares of the width and height of `image`; None or NaN if
            unknown. Only the mask "landmarks" uses them.

        Returns:
          uint8[size, size, 3].
        """
        return frame_box(image, face_box, landmarks, self.size, self.face_margin, self.mask)

    def normalized(self, images: jax.Array) -> jax.Array:
        """Maps images [B, H, W, 3] in 0..255 to float32 network input of the same shape."""
        import jax.numpy as jnp  # with JAX, two seconds, which reading a run does without

        images = images.astype(jnp.float32)
        if self.normalize == "unit":
            return images / 255.0
        if self.normalize == "symmetric":
            return images / 127.5 - 1.0
        if self.input_format is not None:
            return self.input_format.applied(images)
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        deviation = images.std(axis=(1, 2, 3), keepdims=True)
        # The deviation of a constant image is 0; at least one gray level keeps the result finite.
        return (images - mean) / jnp.maximum(deviation, 1.0)

    def to_json(self) -> dict[str, Any]:
        """Returns the form that is stored with a run."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Preprocessing:
        """Inverse of `to_json`. Format 1 has no input_format, format 2 no mask."""
        fields = stored.get("input_format")
        input_format = InputFormat(**fields) if fields is not None else None
        return cls(**{**stored, "input_format": input_format})
