"""The one way from a photo to its probabilities, for the page and for REST.

Threads decode photos and find faces; one thread runs the network (`batcher`). Knows no HTTP.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent import futures

import cv2
import numpy as np

from fer_jax.executor import cores
from fer_jax.faces.decode import UnreadableError, decode
from fer_jax.faces.finder import MIN_SHARE, Choice, FaceFinder, LocatedFace
from fer_jax.inference.batches import BATCH_SIZES
from fer_jax.inference.model import Model
from fer_jax.inference.results import Face
from fer_jax.serve.batcher import Batcher

MAX_FACES = 100
"""Faces of one photo that are classified, the largest first."""


class BusyError(Exception):
    """Too many photos are waiting already."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Which faces of a photo to classify, and how.

    Attributes:
      faces: the "largest" face, "all", or the "whole" photo as one face.
      whole_image: classify the whole photo if no face is detected.
      min_share: smallest face side, as a fraction of the photo's shorter side.
      explain: compute Grad-CAM heat maps.
    """

    faces: Choice
    whole_image: bool = True
    min_share: float = MIN_SHARE
    explain: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """The classified faces of a photo.

    Attributes:
      width: of the decoded photo, in pixels; boxes and landmarks are relative to it.
      height: of the decoded photo, in pixels.
      located: where the faces are, the largest first.
      faces: the same faces with their probabilities.
      left_out: how many faces more than `MAX_FACES` were found.
    """

    width: int
    height: int
    located: Sequence[LocatedFace]
    faces: Sequence[Face]
    left_out: int


class Predictor:
    """Reads photos with a run, several at a time.

    Args:
      model: the opened run.
      max_wait: seconds that a face waits for those of other requests.
      max_queue: photos that may be in work or wait.
      observe: gets the number of faces of each batch.
    """

    def __init__(
        self,
        model: Model,
        max_wait: float,
        max_queue: int,
        observe: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.model = model
        self.max_queue = max_queue
        self.default_faces: Choice = "whole" if model.framing.takes_whole else "all"
        self._pending, self._lock = 0, threading.Lock()
        self._of_thread = threading.local()
        # One thread per core also bounds the decoded photos in memory.
        self._finding = futures.ThreadPoolExecutor(cores(), thread_name_prefix="faces")
        self._batcher = Batcher(model.classify, max_wait, observe)

    @property
    def pending(self) -> int:
        """Photos in work or waiting."""
        return self._pending

    @property
    def is_ready(self) -> bool:
        """Whether photos are still read."""
        return self._batcher.is_alive

    def compile(self) -> None:
        """Compiles the network for its batch sizes, so that no request waits for that."""
        blank = np.zeros((self.model.size, self.model.size, 3), np.uint8)
        face = LocatedFace((0, 0, 1, 1), "given", blank, (0, 0, 1))
        for size in BATCH_SIZES:
            self.model.classify([face] * size)

    def submit(
        self, photos: Sequence[bytes | np.ndarray], options: Options
    ) -> list[futures.Future[Answer]]:
        """Starts to read photos.

        Args:
          photos: contents of image files, or uint8[H, W, 3] RGB.
          options: which faces to classify.

        Returns:
          An answer per photo; `UnreadableError` if it cannot be read.

        Raises:
          BusyError: too many photos are waiting.
        """
        with self._lock:
            if self._pending + len(photos) > self.max_queue:
                raise BusyError(
                    f"{self._pending} photos are waiting, and at most {self.max_queue} may"
                )
            self._pending += len(photos)
        answers = []
        for photo in photos:
            answer: futures.Future[Answer] = futures.Future()
            answer.set_running_or_notify_cancel()  # a caller that is gone cannot cancel it
            answer.add_done_callback(self._finish)
            self._finding.submit(self._find, photo, options, answer)
            answers.append(answer)
        return answers

    def close(self) -> None:
        """Finishes the photos that were submitted, and ends the threads."""
        self._finding.shutdown()
        self._batcher.close()

    def _finish(self, _: futures.Future[Answer]) -> None:
        with self._lock:
            self._pending -= 1

    def _find(
        self, photo: bytes | np.ndarray, options: Options, answer: futures.Future[Answer]
    ) -> None:
        """Decodes a photo, finds its faces and queues them for the network."""
        try:
            image = decode(photo) if isinstance(photo, bytes) else photo
            finder = self._finder(options.min_share)
            found = finder.find(image, options.faces, options.whole_image)
            located, (height, width) = found[:MAX_FACES], image.shape[:2]
            result = self._batcher.submit(located, options.explain)
        except (cv2.error, MemoryError) as error:
            reason = str(error).strip().split("\n")[0] or "not enough memory"
            answer.set_exception(UnreadableError(f"no faces could be detected: {reason}"))
            return
        except Exception as error:  # noqa: BLE001 - raised where the answer is read
            answer.set_exception(error)
            return

        def finish(done: futures.Future[list[Face]]) -> None:
            if error := done.exception():
                answer.set_exception(error)
            else:
                left_out = len(found) - len(located)
                answer.set_result(Answer(width, height, located, done.result(), left_out))

        result.add_done_callback(finish)

    def _finder(self, min_share: float) -> FaceFinder:
        """This thread's own: detectors have internal state. Another `min_share` takes 5 ms."""
        if min_share != MIN_SHARE:
            return FaceFinder(self.model.framing, min_share)
        if not hasattr(self._of_thread, "finder"):
            self._of_thread.finder = FaceFinder(self.model.framing, min_share)
        finder: FaceFinder = self._of_thread.finder
        return finder
