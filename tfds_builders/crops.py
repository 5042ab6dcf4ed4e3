"""Pictures to face crops: read, decode, find the face, cut, encode, on all cores.

OpenCV and zlib release the interpreter's lock, so threads are enough; the order of
the results is that of the input. It decides nothing about labels or splits.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import TypeAlias

from fer_jax.data import faces
from tfds_builders import pictures, sources

BLACK = "black"
UNREADABLE = "unreadable"

_AHEAD = 4  # pictures in flight per thread


@dataclasses.dataclass(frozen=True)
class CropSettings:
    """How faces are cut out; part of the stamp of prepared data.

    Attributes:
      margin: Added around the face on each side, as a share of its box.
      min_share: Smallest face accepted, as a share of the picture's shorter side.
      longest_side: Crops are stored no larger than this, in pixels.
      quality: JPEG quality of the stored crops.
    """

    margin: float = 0.1
    min_share: float = 0.3
    longest_side: int = 256
    quality: int = 95


@dataclasses.dataclass(frozen=True)
class Request:
    """One picture to crop: its record id, its file, and where faces lie in its view."""

    id: str
    file: str
    view_box: faces.RelativeBox | None = None


@dataclasses.dataclass(frozen=True)
class Crop:
    """A face cut out.

    Attributes:
      id: The record's id.
      jpeg: The crop, a square, as a JPEG file.
      face: Where the face was in the picture, and how it was found.
      stand_in: Whether the file carried the mark of a stand-in.
    """

    id: str
    jpeg: bytes
    face: faces.Face
    stand_in: bool


@dataclasses.dataclass(frozen=True)
class Drop:
    """A picture without use: its id, its file, the reason, and a detail for people."""

    id: str
    file: str
    reason: str
    detail: str


Outcome: TypeAlias = Crop | Drop


def crop_all(
    source: sources.Source, requests: Iterable[Request], settings: CropSettings
) -> Iterator[Outcome]:
    """One outcome per request, in their order."""
    threads = len(os.sched_getaffinity(0))
    local = threading.local()

    def work(request: Request) -> Outcome:
        if not hasattr(local, "detector"):  # a cascade keeps state: one per thread
            local.detector = faces.HaarDetector(settings.min_share)
        return crop_one(source, request, settings, local.detector)

    pending: collections.deque[futures.Future[Outcome]] = collections.deque()
    pool = futures.ThreadPoolExecutor(threads)
    try:
        for request in requests:
            pending.append(pool.submit(work, request))
            if len(pending) >= threads * _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def crop_one(
    source: sources.Source, request: Request, settings: CropSettings, detector: faces.Detector
) -> Outcome:
    """Reads, decodes, finds, cuts and encodes one picture."""
    try:
        data = source.read(request.file)
        picture = pictures.decode_jpeg(data)
    except (pictures.UnreadableError, sources.MemberError) as error:
        return Drop(request.id, request.file, UNREADABLE, str(error))
    if pictures.is_black(picture):
        return Drop(request.id, request.file, BLACK, f"mean {picture.mean():.1f}")
    face = faces.find_face(picture, detector, request.view_box)
    square = faces.crop_square(picture, face.box, settings.margin)
    small = faces.shrink(square, settings.longest_side)
    jpeg = pictures.encode_jpeg(small, settings.quality)
    return Crop(request.id, jpeg, face, pictures.is_stand_in(data))
