"""Predicts a stream of frames in order, with bounded memory.

A pipeline of three stages: one thread decodes frames ahead, for a thread pool that detects faces,
and the caller's thread runs the network on the faces of several frames at once. The constants below
bound the number of frames in memory.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from typing import TypeVar, cast

import cv2

from fer_jax.executor import cores
from fer_jax.faces.finder import Choice, FaceFinder, LocatedFace
from fer_jax.inference.batches import BATCH_SIZES
from fer_jax.inference.model import Model
from fer_jax.inference.results import Prediction
from fer_jax.inference.sources import Frame, Source, Unreadable, frames

DECODE_AHEAD = 8
"""Decoded frames that may wait for their faces."""

MAX_PENDING = 16
"""Frames whose faces may wait until a batch is full."""


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """Which faces of each frame to classify, and how.

    Attributes:
      faces: the "largest" face, "all", or the "whole" image as one face.
      whole_image: classify the whole image if no face is detected. Ignored for videos and
        cameras, where frames without a person are common.
      explain: compute Grad-CAM heat maps.
      min_share: smallest face side, as a fraction of the frame's shorter side.
      detector: a `FaceCrop.detector`; None for the run's default.
      abstain: the top probability below which a face's label is `UNCERTAIN`.
    """

    faces: Choice
    whole_image: bool
    explain: bool
    min_share: float
    detector: str | None = None
    abstain: float = 0.0


FramePrediction = tuple[Frame, Prediction]

Item = TypeVar("Item")

_Pending = tuple[Frame | Unreadable, list[LocatedFace]]


def predict_frames(
    model: Model, sources: Iterable[Source], options: PredictOptions
) -> Generator[FramePrediction | Unreadable, None, None]:
    """Yields a prediction for every frame of every source, in order."""
    pending: list[_Pending] = []
    for item, located in _locate(model, sources, options):
        pending.append((item, located))
        faces = sum(len(group) for _, group in pending)
        if faces >= BATCH_SIZES[-1] or len(pending) >= MAX_PENDING:
            yield from _classify(model, pending, options)
            pending.clear()
    yield from _classify(model, pending, options)


def predict_live(
    model: Model, source: Source, options: PredictOptions
) -> Generator[FramePrediction | Unreadable, None, None]:
    """Yields a prediction for the newest frame each time, so that the delay stays short.

    Frames that arrive while one is predicted are left out.
    """
    finder = FaceFinder(model.framing, options.min_share, options.detector)
    with contextlib.closing(newest(frames(source))) as fresh:
        for item in fresh:
            if isinstance(item, Unreadable):
                yield item
            else:
                located = finder.find(item.image, options.faces, whole_image=False)
                faces = model.classify(located, options.explain, options.abstain)
                yield item, Prediction(source.name, tuple(faces))


def newest(
    items: Iterator[Frame | Unreadable],
) -> Generator[Frame | Unreadable, None, None]:
    """Yields the newest item each time, read by a thread; the last one is always yielded.

    An exception in the thread is raised here. Closing the generator stops the thread.
    """
    slot: collections.deque[object] = collections.deque(maxlen=1)
    arrived, stopped, end = threading.Event(), threading.Event(), object()
    ended: list[object] = []

    def read() -> None:
        try:
            for item in items:
                slot.append(item)
                arrived.set()
                if stopped.is_set():
                    return
            ended.append(end)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            ended.append(error)
        arrived.set()

    thread = threading.Thread(target=read, name="capturing", daemon=True)
    thread.start()
    try:
        while True:
            arrived.wait()
            arrived.clear()
            is_last = bool(ended)
            if slot:
                item = slot.popleft()
                assert isinstance(item, Frame | Unreadable)
                yield item
            if is_last:
                break
        if isinstance(ended[0], BaseException):
            raise ended[0]
    finally:
        stopped.set()
        thread.join(timeout=10)


def _classify(
    model: Model, pending: list[_Pending], options: PredictOptions
) -> Iterator[FramePrediction | Unreadable]:
    """Runs the network once on the faces of all pending frames."""
    located_faces = [face for _, group in pending for face in group]
    faces = iter(model.classify(located_faces, options.explain, options.abstain))
    for item, located in pending:
        if isinstance(item, Unreadable):
            yield item
        else:
            yield item, Prediction(item.source.name, tuple(next(faces) for _ in located))


def _locate(model: Model, sources: Iterable[Source], options: PredictOptions) -> Iterator[_Pending]:
    """Yields each frame with its located faces, in order; a thread pool detects them."""
    threads = cores()
    local = threading.local()

    def find(frame: Frame) -> list[LocatedFace]:
        if not hasattr(local, "finder"):  # a detector has internal state: one per thread
            local.finder = FaceFinder(model.framing, options.min_share, options.detector)
        whole_image = options.whole_image and frame.source.kind == "picture"
        return local.finder.find(frame.image, options.faces, whole_image)

    def located() -> Generator[_Pending, None, None]:
        pending: collections.deque[tuple[Frame | Unreadable, futures.Future[list[LocatedFace]]]]
        pending = collections.deque()
        with futures.ThreadPoolExecutor(threads) as pool:
            try:
                for item in itertools.chain.from_iterable(map(frames, sources)):
                    pending.append((item, _submit(pool, find, item)))
                    if len(pending) > DECODE_AHEAD:
                        yield _result(*pending.popleft())
                while pending:
                    yield _result(*pending.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    # The pool is used by the thread that reads, never by the main one: a signal there would raise
    # KeyboardInterrupt between two instructions, and leave a lock that the pool's threads wait for.
    return read_ahead(located(), threads)


def _result(item: Frame | Unreadable, located: futures.Future[list[LocatedFace]]) -> _Pending:
    """Waits for the faces of a frame; one that OpenCV fails on does not end the others."""
    try:
        return item, located.result()
    except (cv2.error, MemoryError) as error:
        reason = str(error).strip().split("\n")[0] or "not enough memory"
        return Unreadable(item.source, f"no faces could be detected: {reason}"), []


def _submit(
    pool: futures.Executor, find: Callable[[Frame], list[LocatedFace]], item: Frame | Unreadable
) -> futures.Future[list[LocatedFace]]:
    if isinstance(item, Frame):
        return pool.submit(find, item)
    no_faces: futures.Future[list[LocatedFace]] = futures.Future()
    no_faces.set_result([])
    return no_faces


def read_ahead(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """Yields `items`, read by a thread that runs at most `depth` items ahead.

    An exception in the thread is raised here. Closing the generator stops the thread.
    """
    ready: queue.Queue[object] = queue.Queue(depth)
    stopped, end = threading.Event(), object()

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    put(item)
                    if stopped.is_set():
                        return
            put(end)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            put(error)

    thread = threading.Thread(target=read, name="reading", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield cast("Item", item)
    finally:
        stopped.set()
        thread.join(timeout=10)
