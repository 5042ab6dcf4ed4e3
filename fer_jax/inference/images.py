"""Turns what callers pass as images (paths, bytes, arrays, PIL images) into RGB arrays.

Every input is taken, or refused with one `UserError`. No face is detected here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from fer_jax.errors import UserError
from fer_jax.faces.decode import (
    UnreadableError,
    blend_with_white,
    check_shape,
    decode,
    read_image,
)
from fer_jax.printable import printable

ImageInput: TypeAlias = Any
"""A path; the bytes of an image file; uint8[H, W, 3] RGB, uint8[H, W, 4] RGBA or uint8[H, W] gray;
or a PIL image."""

_EXPECTED = (
    "expected an image as a path, the bytes of a file, a PIL image, or uint8[height, width, 3] in "
    "RGB (also [height, width] gray, [height, width, 4] RGBA)"
)


def split(images: ImageInput | Iterable[ImageInput]) -> Iterator[ImageInput]:
    """Yields the images of an argument that is one image or several.

    An array is one image unless it has four axes, or three and no channels in the last.

    Raises:
      UserError: the argument is neither.
    """
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview) or _is_pil(images):
        yield images
    elif hasattr(images, "__array__"):
        array = np.asarray(images)
        several = array.ndim == 4 or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
        yield from array if several else (array,)
    elif isinstance(images, Iterable):
        yield from images
    else:
        raise UserError(f"{_EXPECTED}, or several, found {_describe(images)}")


def pixels(image: ImageInput) -> np.ndarray:
    """Returns an image as uint8[H, W, 3] RGB.

    Raises:
      UserError: it is no image, or has the wrong shape or dtype.
    """
    try:
        if isinstance(image, str | os.PathLike):
            return read_image(Path(os.fsdecode(image)))
        if isinstance(image, bytes | bytearray | memoryview):
            return decode(bytes(image))
        array = _from_pil(image) if _is_pil(image) else _as_array(image)
        check_shape(array.shape[1], array.shape[0])
    except UnreadableError as error:
        raise UserError(
            f"expected an image, found {_describe(image)}: {error}; remove or replace it"
        ) from None
    if array.ndim == 2 or array.shape[2] == 1:
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_GRAY2RGB))
    return blend_with_white(array) if array.shape[2] == 4 else array


def name(image: ImageInput) -> str:
    """Returns the path of an image; "" if it is none."""
    return os.fsdecode(image) if isinstance(image, str | os.PathLike) else ""


def _as_array(image: Any) -> np.ndarray:
    array = np.asarray(image) if hasattr(image, "__array__") else None
    if array is None:
        raise UserError(f"{_EXPECTED}, found {_describe(image)}")
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if array.dtype != np.uint8 or channels not in (1, 3, 4):
        raise UserError(f"{_EXPECTED}, found {_describe(array)}; convert it first")
    return array


def _is_pil(image: Any) -> bool:
    """Whether `image` is a PIL image, without importing PIL."""
    return any(kind.__module__ == "PIL.Image" for kind in type(image).__mro__)


def _from_pil(image: Any) -> np.ndarray:
    """uint8[H, W, 3 or 4]; turned as its EXIF header says, like a file."""
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):  # PIL clips these instead of scaling
            raise UserError(
                f"{_EXPECTED}, found a PIL image of mode {image.mode}; "
                "pass the file's path, or convert it to mode L or RGB"
            )
        has_alpha = "A" in image.mode or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableError(str(error) or "cannot be decoded") from error


def _describe(image: Any) -> str:
    if image is None:
        return "None, which cv2.imread returns for a file that it cannot read"
    if isinstance(image, str | os.PathLike):
        return printable(os.fsdecode(image))
    if isinstance(image, np.ndarray):
        return f"{image.dtype}{list(image.shape)}"
    if isinstance(image, bytes | bytearray | memoryview):
        return f"{len(image):,} bytes"
    return f"a {type(image).__name__}"
