"""Frames in, results out, in their order and with bounded memory.

Three things run beside each other: a thread reads and decodes ahead, threads find faces,
and the caller's thread runs the network on faces of several frames at once. However long
a video is, only so many frames are held at a time as the constants below say.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures

from fer_jax.api import Model
from fer_jax.inference.locate import Choice, FaceFinder, Located
from fer_jax.inference.network import BATCHES
from fer_jax.inference.results import Picture
from fer_jax.inference.sources import Frame, Source, Unreadable, frames

AHEAD = 8
"""Frames that are decoded and wait for a face finder."""

TOGETHER = 16
"""Frames whose faces may wait for each other to fill a batch."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to do with each frame.

    Attributes:
      choice: the "largest" face or "all".
      whole_pictures: take a picture without a face for one; never done with videos, whose
        people come and go.
      explain: make heat maps.
      least_share: smallest face side, as a share of the frame's shorter side.
    """

    choice: Choice
    whole_pictures: bool
    explain: bool
    least_share: float


Seen = tuple[Frame, Picture]


def recognize_all(
    model: Model, sources: Iterable[Source], wanted: Wanted
) -> Generator[Seen | Unreadable, None, None]:
    """What the faces in all frames of all sources express, frame by frame."""
    waiting: list[tuple[Frame | Unreadable, list[Located]]] = []
    for item, located in _located(model, sources, wanted):
        waiting.append((item, located))
        faces = sum(len(found) for _, found in waiting)
        if faces >= BATCHES[-1] or len(waiting) >= TOGETHER:
            yield from _recognized(model, waiting, wanted)
            waiting.clear()
    yield from _recognized(model, waiting, wanted)


def _recognized(
    model: Model, waiting: list[tuple[Frame | Unreadable, list[Located]]], wanted: Wanted
) -> Iterator[Seen | Unreadable]:
    together = [face for _, located in waiting for face in located]
    faces = iter(model.recognize(together, wanted.explain))
    for item, located in waiting:
        if isinstance(item, Unreadable):
            yield item
        else:
            yield item, Picture(item.source.name, tuple(next(faces) for _ in located))


def _located(
    model: Model, sources: Iterable[Source], wanted: Wanted
) -> Iterator[tuple[Frame | Unreadable, list[Located]]]:
    """Each frame with its faces; several threads look for them, the order is kept."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    local = threading.local()

    def find(frame: Frame) -> list[Located]:
        if not hasattr(local, "finder"):  # a cascade keeps state: one per thread
            local.finder = FaceFinder(model.run, wanted.least_share)
        whole = wanted.whole_pictures and frame.source.kind == "picture"
        return local.finder.find(frame.image, wanted.choice, whole)

    pending: collections.deque[tuple[Frame | Unreadable, futures.Future[list[Located]]]]
    pending = collections.deque()
    pool = futures.ThreadPoolExecutor(threads)
    all_frames = (item for source in sources for item in frames(source))
    try:
        with contextlib.closing(decoded_ahead(all_frames, AHEAD)) as decoded:
            for item in decoded:
                pending.append((item, _future(pool, find, item)))
                if len(pending) > threads:
                    first, found = pending.popleft()
                    yield first, found.result()
            for last, found in pending:
                yield last, found.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _future(
    pool: futures.Executor, find: Callable[[Frame], list[Located]], item: Frame | Unreadable
) -> futures.Future[list[Located]]:
    if isinstance(item, Frame):
        return pool.submit(find, item)
    nothing: futures.Future[list[Located]] = futures.Future()
    nothing.set_result([])
    return nothing


def decoded_ahead(
    items: Iterator[Frame | Unreadable], depth: int
) -> Generator[Frame | Unreadable, None, None]:
    """Yields `items`, drawn by a thread that runs at most `depth` items ahead.

    What the thread raises is raised here. When the caller stops, so does the thread.
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

    def draw() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(end)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            put(error)

    thread = threading.Thread(target=draw, name="decoding", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            assert isinstance(item, Frame | Unreadable)
            yield item
    finally:
        stopped.set()
        thread.join(timeout=10)
