"""A trained run with its face detector: from images to labeled faces.

Reads image files. Videos, cameras and whole folders are handled by `stream`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fer_jax.errors import UserError
from fer_jax.faces.decode import UnreadableError, read_image
from fer_jax.inference.locate import MIN_SHARE, Choice, FaceFinder, LocatedFace, frame_crop
from fer_jax.inference.network import Network
from fer_jax.inference.results import Face, Prediction
from fer_jax.run_dir import Run

ImageInput = str | os.PathLike[str] | np.ndarray
"""A path, or an image uint8[H, W, 3] RGB."""


class Model:
    """A trained run, ready to predict. Not thread-safe: use one per thread.

    Args:
      run: a trained run.
      min_share: smallest face side, as a fraction of the image's shorter side.
    """

    def __init__(self, run: Run, min_share: float = MIN_SHARE) -> None:
        self.run = run
        self.network = Network(run)
        self._finder = FaceFinder(run, min_share)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in index order."""
        return self.run.labels

    @property
    def size(self) -> int:
        """Side length of the network's input, in pixels."""
        return self.run.preprocessing.size

    def predict(
        self,
        images: ImageInput | Sequence[ImageInput],
        *,
        choice: Choice = "largest",
        whole_image: bool = True,
        explain: bool = False,
    ) -> list[Prediction]:
        """Detects the faces in images and classifies their expressions.

        Args:
          images: one or more paths, or arrays uint8[H, W, 3] RGB.
          choice: the "largest" face of each image, or "all" faces.
          whole_image: classify the whole image if no face is detected; the resulting face has
            `found == "whole"`.
          explain: also compute Grad-CAM heat maps.

        Returns:
          One prediction per image, in input order.

        Raises:
          UserError: a file is not a readable image, or an array has the wrong shape or dtype.
        """
        inputs = [images] if isinstance(images, str | os.PathLike | np.ndarray) else images
        located = [self._finder.find(_pixels(image), choice, whole_image) for image in inputs]
        faces = iter(self.classify([face for group in located for face in group], explain))
        return [
            Prediction(_name(image), tuple(next(faces) for _ in group))
            for image, group in zip(inputs, located, strict=True)
        ]

    def predict_faces(self, faces: np.ndarray) -> np.ndarray:
        """Classifies images that are already cropped to a face.

        Args:
          faces: uint8[N, H, W, 3] RGB, of any size.

        Returns:
          Probabilities float32[N, C].

        Raises:
          UserError: the array has the wrong shape or dtype.
        """
        if np.ndim(faces) != 4 or faces.shape[-1] != 3 or faces.dtype != np.uint8:
            raise UserError(
                "expected faces as uint8[N, height, width, 3] in RGB, found "
                f"{getattr(faces, 'dtype', type(faces).__name__)}{list(np.shape(faces))}; "
                "convert them first"
            )
        framed = [frame_crop(self.run.preprocessing, face) for face in faces]
        return self.network.classify(self._stack(framed))

    def classify(self, located: Iterable[LocatedFace], explain: bool = False) -> list[Face]:
        """Classifies located faces, in order."""
        faces = list(located)
        pixels = self._stack([face.pixels for face in faces])
        heat_maps: list[np.ndarray | None] = [None] * len(faces)
        if explain:
            probabilities, maps = self.network.explain(pixels)
            heat_maps = list(maps)
        else:
            probabilities = self.network.classify(pixels)
        return [
            Face(
                box=face.box,
                found=face.found,
                label=self.labels[int(row.argmax())],
                probabilities=dict(zip(self.labels, map(float, row), strict=True)),
                pixels=face.pixels,
                heat=heat,
                square=face.square,
            )
            for face, row, heat in zip(faces, probabilities, heat_maps, strict=True)
        ]

    def _stack(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        empty = np.zeros((0, self.size, self.size, 3), np.uint8)
        return np.stack(faces) if faces else empty


def _pixels(image: ImageInput) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        try:
            return read_image(Path(image))
        except UnreadableError as error:
            raise UserError(
                f"expected an image, found {image}: {error}; remove or replace it"
            ) from None
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(
            "expected images as paths or uint8[height, width, 3] in RGB, found "
            f"{image.dtype}{list(image.shape)}; convert them first"
        )
    return image


def _name(image: ImageInput) -> str:
    return "" if isinstance(image, np.ndarray) else os.fspath(image)
