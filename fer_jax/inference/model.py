"""A trained run with its face detector: from images to labeled faces.

Reads image files. Videos, cameras and whole folders are handled by `stream`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fer_jax.errors import UserError
from fer_jax.faces.finder import CHOICES, MIN_SHARE, Choice, FaceFinder, LocatedFace
from fer_jax.faces.framing import Framing
from fer_jax.heads import DIMENSIONS, Heads
from fer_jax.inference import fork
from fer_jax.inference import images as image_inputs
from fer_jax.inference.images import ImageInput
from fer_jax.inference.locate import framing_of
from fer_jax.inference.onnx_runtime import Classifier, open_classifier
from fer_jax.inference.results import Face, Prediction
from fer_jax.run_dir import Run

if TYPE_CHECKING:
    from fer_jax.inference.network import Network


class Model:
    """A trained run, ready to predict.

    Threads may share it. A pickle names the run directory and opens it anew.

    Args:
      run: a trained run.
      min_share: smallest face side, as a fraction of the image's shorter side.
    """

    def __init__(self, run: Run, min_share: float = MIN_SHARE) -> None:
        self.__setstate__((run, min_share))
        self.classifier  # noqa: B018 - reports wrong input now
        self._finder()

    def __getstate__(self) -> tuple[Run, float]:
        return self.run, self._min_share

    def __setstate__(self, state: tuple[Run, float]) -> None:
        self.run, self._min_share = state
        self.framing: Framing = framing_of(self.run)
        self._of_thread = threading.local()

    @functools.cached_property
    def classifier(self) -> Classifier:
        """What computes the answers: JAX, or on CPUs ONNX Runtime where it is faster.

        A pickle's is opened at its first use: an error while a worker of a
        `multiprocessing.Pool` unpickles would make the pool hang.
        """
        return open_classifier(self.run, lambda: self.network)

    @functools.cached_property
    def network(self) -> Network:
        """The trained network in JAX, opened at its first use: it has features and heat maps."""
        from fer_jax.inference.network import Network

        return Network(self.run)

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
        images: ImageInput | Iterable[ImageInput],
        *,
        faces: Choice | None = None,
        whole_image: bool = True,
        explain: bool = False,
        choice: None = None,
    ) -> list[Prediction]:
        """Detects the faces in images and classifies their expressions.

        Args:
          images: one or more paths, contents of files, PIL images, or arrays uint8[H, W, 3] RGB
            (also uint8[H, W] gray and uint8[H, W, 4] RGBA).
          faces: the "largest" face of each image, "all" faces, or "whole": the image is a face
            already. By default "largest", but "whole" for a run on uncropped images of your own.
          whole_image: classify the whole image if no face is detected; the resulting face has
            `found == "whole"`.
          explain: also compute Grad-CAM heat maps.
          choice: the former name of `faces`; refused.

        Returns:
          One prediction per image, in input order.

        Raises:
          UserError: an input is not a readable image, or `faces` is none of the above.
        """
        if choice is not None:
            raise UserError(f"expected faces={choice!r}, found its former name, choice; rename it")
        names, located = self._locate(images, faces, CHOICES, whole_image)
        results = iter(self.classify([face for group in located for face in group], explain))
        return [
            Prediction(name, tuple(next(results) for _ in group))
            for name, group in zip(names, located, strict=True)
        ]

    def predict_faces(self, faces: ImageInput | Iterable[ImageInput]) -> np.ndarray:
        """Classifies images that are already cropped to a face.

        Args:
          faces: uint8[N, H, W, 3] RGB, or images of any sizes and kinds that `predict` takes.

        Returns:
          Probabilities float32[N, C].

        Raises:
          UserError: an input is not a readable image.
        """
        framed = [
            self.framing.frame_whole(image_inputs.pixels(face))
            for face in image_inputs.split(faces)
        ]
        probabilities, _ = self.run.heads.split(self.classifier.answer(self._stack(framed)))
        return np.asarray(probabilities)

    def embed(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        faces: Literal["largest", "whole"] | None = None,
    ) -> np.ndarray:
        """Computes a feature vector per image, for a classifier, a search or a plot of your own.

        The features are the inputs of the network's last layer, which makes logits of them. Faces
        are detected and framed as in `predict`; without a face, the whole image is used. There is
        no test-time augmentation.

        Args:
          images: as for `predict`.
          faces: the "largest" face of each image, or "whole": the image is a face already. By
            default as for `predict`.

        Returns:
          float32[N, D], one row per image; D depends on the network: 512 for the shipped model.

        Raises:
          UserError: an input is not a readable image, or `faces` is neither of the above.
        """
        _, located = self._locate(images, faces, ("largest", "whole"), whole_image=True)
        return self.network.embed(self._stack([face.pixels for (face,) in located]))

    def classify(
        self, located: Iterable[LocatedFace], explain: bool = False, threshold: float = 0.0
    ) -> list[Face]:
        """Classifies located faces, in order; `threshold` as in `Face`."""
        faces = list(located)
        pixels = self._stack([face.pixels for face in faces])
        heat_maps: list[np.ndarray | None] = [None] * len(faces)
        if explain:
            answers, maps = self.network.explain(pixels)
            heat_maps = list(maps)
        else:
            answers = self.classifier.answer(pixels)
        heads = self.run.heads
        probabilities, extras = heads.split(answers)
        return [
            Face(
                box=face.box,
                found=face.found,
                label=self.labels[int(row.argmax())],
                probabilities=dict(zip(self.labels, map(float, row), strict=True)),
                pixels=face.pixels,
                heat=heat,
                square=face.square,
                threshold=threshold,
                **({} if extras is None else _further(extras[number], heads)),
            )
            for number, (face, row, heat) in enumerate(
                zip(faces, probabilities, heat_maps, strict=True)
            )
        ]

    def _locate(
        self,
        images: ImageInput | Iterable[ImageInput],
        faces: Choice | None,
        choices: Sequence[str],
        whole_image: bool,
    ) -> tuple[list[str], list[list[LocatedFace]]]:
        """Returns the name of each image, and the faces in it."""
        faces = faces or ("whole" if self.framing.takes_whole else "largest")
        if faces not in choices:
            raise UserError(f"expected faces of {', '.join(choices)}, found {faces!r}")
        fork.check()  # the detector's threads would hang, too
        names, located = [], []
        for image in image_inputs.split(images):
            located.append(self._finder().find(image_inputs.pixels(image), faces, whole_image))
            names.append(image_inputs.name(image))
        return names, located

    def _finder(self) -> FaceFinder:
        """This thread's own: detectors have internal state."""
        if not hasattr(self._of_thread, "finder"):
            self._of_thread.finder = FaceFinder(self.framing, self._min_share)
        return self._of_thread.finder

    def _stack(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        empty = np.zeros((0, self.size, self.size, 3), np.uint8)
        return np.stack(faces) if faces else empty


def _further(row: np.ndarray, heads: Heads) -> dict[str, Any]:
    """Returns the fields of `Face` for the answers of further heads, float32[E]."""
    named = dict(zip(heads.names, map(float, row), strict=True))
    fields: dict[str, Any] = {}
    if heads.units:
        fields["units"] = {name: named[name] for name in heads.units}
    if heads.affect:
        fields |= {name: named[name] for name in DIMENSIONS}
    return fields
