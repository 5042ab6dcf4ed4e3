"""Runs the network in one thread, on the faces of several requests at once.

Knows neither HTTP nor how faces are found.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

from fer_jax.faces.finder import LocatedFace
from fer_jax.inference.batches import BATCH_SIZES
from fer_jax.inference.results import Face

MAX_BATCH = BATCH_SIZES[-1]
"""Faces that wait at most for the network before it starts."""

Classify = Callable[[Sequence[LocatedFace], bool], list[Face]]
"""(faces, whether to compute heat maps) -> the classified faces, in order: `Model.classify`."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Group:
    """The faces of one image, and where their results go."""

    faces: Sequence[LocatedFace]
    explain: bool
    result: futures.Future[list[Face]]


class Batcher:
    """Collects faces until a batch is full or the first of them has waited long enough.

    Args:
      classify: runs the network; called in this object's thread only.
      max_wait: seconds that the first face of a batch waits for others.
      observe: gets the number of faces of each batch.
    """

    def __init__(
        self, classify: Classify, max_wait: float, observe: Callable[[int], object] = lambda _: None
    ) -> None:
        self._classify, self._max_wait, self._observe = classify, max_wait, observe
        self._waiting: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether faces are still classified."""
        return self._thread.is_alive()

    def submit(
        self, faces: Sequence[LocatedFace], explain: bool = False
    ) -> futures.Future[list[Face]]:
        """Classifies faces, together with those of other callers.

        Args:
          faces: of one image; may be empty.
          explain: also compute Grad-CAM heat maps.

        Returns:
          The classified faces in order, or what the network raised.
        """
        group = _Group(faces, explain, futures.Future())
        if faces:
            self._waiting.put(group)
        else:
            group.result.set_result([])
        return group.result

    def close(self) -> None:
        """Ends the thread after the faces that were submitted before."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            groups: list[_Group] = []
            is_open = self._collect(groups)
            for explain in (False, True):
                self._run_network([group for group in groups if group.explain == explain], explain)

    def _collect(self, groups: list[_Group]) -> bool:
        """Fills a batch; returns whether more may follow."""
        first = self._waiting.get()
        if first is None:
            return False
        groups.append(first)
        deadline = time.monotonic() + self._max_wait
        while sum(len(group.faces) for group in groups) < MAX_BATCH:
            try:
                # Those that came while the network was busy are taken even when no time is left.
                group = self._waiting.get(timeout=max(1e-6, deadline - time.monotonic()))
            except queue.Empty:
                break
            if group is None:
                return False
            groups.append(group)
        return True

    def _run_network(self, groups: list[_Group], explain: bool) -> None:
        """Classifies the faces of some images and hands out the results."""
        faces = [face for group in groups for face in group.faces]
        try:
            results: list[Face] = []
            for batch in batches(faces):
                self._observe(len(batch))
                results += self._classify(batch, explain)
        except Exception as error:  # noqa: BLE001 - the callers get it; the thread goes on
            for group in groups:
                group.result.set_exception(error)
            return
        rest = iter(results)
        for group in groups:
            group.result.set_result([next(rest) for _ in group.faces])


def batches(faces: Sequence[LocatedFace]) -> Iterator[Sequence[LocatedFace]]:
    """Splits faces into batches that fill at least half of one of the network's `BATCH_SIZES`.

    On a CPU a padded row costs as much as a face: nine faces are a batch of eight and one of one,
    where one of 32 would take three times as long.
    """
    first = 0
    while first < len(faces):
        rest = len(faces) - first
        size = max(size for size in BATCH_SIZES if size == 1 or 2 * rest >= size)
        yield faces[first : first + size]
        first += size
