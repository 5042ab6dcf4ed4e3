"""A trained run in a few lines of Python.

    import fer_jax

    model = fer_jax.load("runs/demo")
    for picture in model.predict(["anna.jpg", "group.jpg"], choice="all"):
        for face in picture.faces:
            print(picture.source, face.box, face.label, face.probabilities)

Faces are found, cut, framed and normalised as the run's training data was; nothing has to
be given again. Whole folders, videos and cameras are for `fer-jax predict`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fer_jax import run_dir as run_directory
from fer_jax.errors import UserError
from fer_jax.faces.decode import UnreadableError, read_picture
from fer_jax.inference.locate import LEAST_SHARE, Choice, FaceFinder, Located, framed_whole
from fer_jax.inference.network import Network
from fer_jax.inference.results import Face, Picture
from fer_jax.run_dir import Run

Input = str | os.PathLike[str] | np.ndarray
"""A path, or a picture uint8[H, W, 3] RGB."""


def load(folder: str | os.PathLike[str]) -> Model:
    """Opens a run directory, such as "runs/demo", and its best weights.

    Raises:
      UserError: no run, one of a newer fer_jax, or no checkpoint that is whole.
    """
    return Model(run_directory.open_run(Path(folder)))


class Model:
    """A trained run that can be asked about pictures; use one per thread.

    Args:
      run: a trained run.
      least_share: smallest face side, as a share of the picture's shorter side.
    """

    def __init__(self, run: Run, least_share: float = LEAST_SHARE) -> None:
        self.run = run
        self.network = Network(run)
        self._finder = FaceFinder(run, least_share)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in index order."""
        return self.run.labels

    @property
    def size(self) -> int:
        """Side of the faces that the network takes, in pixels."""
        return self.run.preprocessing.size

    def predict(
        self,
        pictures: Input | Sequence[Input],
        *,
        choice: Choice = "largest",
        whole: bool = True,
        explain: bool = False,
    ) -> list[Picture]:
        """Finds the faces of pictures and says what they express.

        Args:
          pictures: one or several paths, or arrays uint8[H, W, 3] RGB.
          choice: the "largest" face of each picture, or "all".
          whole: take the whole picture for a face where none is found; its face then has
            `found == "whole"`.
          explain: make the heat maps too.

        Returns:
          One result for each picture, in their order.

        Raises:
          UserError: a file that is no picture, or an array of another form.
        """
        several = [pictures] if isinstance(pictures, str | os.PathLike | np.ndarray) else pictures
        found = [self._finder.find(_pixels(one), choice, whole) for one in several]
        faces = iter(self.recognize([face for faces in found for face in faces], explain))
        return [
            Picture(_name(one), tuple(next(faces) for _ in located))
            for one, located in zip(several, found, strict=True)
        ]

    def predict_faces(self, faces: np.ndarray) -> np.ndarray:
        """Probabilities float32[N, C] of faces that are cut already.

        Args:
          faces: uint8[N, H, W, 3] RGB, of any size.

        Raises:
          UserError: an array of another form.
        """
        if np.ndim(faces) != 4 or faces.shape[-1] != 3 or faces.dtype != np.uint8:
            raise UserError(
                "expected faces as uint8[N, height, width, 3] in RGB, found "
                f"{getattr(faces, 'dtype', type(faces).__name__)}{list(np.shape(faces))}; "
                "convert them first"
            )
        framed = [framed_whole(self.run.preprocessing, face) for face in faces]
        return self.network.classify(self._stacked(framed))

    def recognize(self, located: Iterable[Located], explain: bool = False) -> list[Face]:
        """What found faces express, in their order."""
        wanted = list(located)
        pixels = self._stacked([face.pixels for face in wanted])
        heat: list[np.ndarray | None] = [None] * len(wanted)
        if explain:
            probabilities, maps = self.network.explain(pixels)
            heat = list(maps)
        else:
            probabilities = self.network.classify(pixels)
        return [
            Face(
                box=face.box,
                found=face.found,
                label=self.labels[int(row.argmax())],
                probabilities=dict(zip(self.labels, map(float, row), strict=True)),
                pixels=face.pixels,
                heat=places,
                square=face.square,
            )
            for face, row, places in zip(wanted, probabilities, heat, strict=True)
        ]

    def _stacked(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        none = np.zeros((0, self.size, self.size, 3), np.uint8)
        return np.stack(faces) if faces else none


def _pixels(picture: Input) -> np.ndarray:
    if not isinstance(picture, np.ndarray):
        try:
            return read_picture(Path(picture))
        except UnreadableError as error:
            raise UserError(
                f"expected a picture, found {picture}: {error}; leave it out or replace it"
            ) from None
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise UserError(
            "expected pictures as paths or uint8[height, width, 3] in RGB, found "
            f"{picture.dtype}{list(picture.shape)}; convert it first"
        )
    return picture


def _name(picture: Input) -> str:
    return "" if isinstance(picture, np.ndarray) else os.fspath(picture)
