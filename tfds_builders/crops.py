"""Pictures to face crops: read, decode, find the face, cut, encode, on all cores.

OpenCV and zlib release the interpreter's lock, so threads are enough; the order of
the results is that of the input, and only a few pictures are in memory at a time. It
decides nothing about labels or splits.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from typing import Any, TypeAlias

import cv2
import numpy as np

from fer_jax.faces import detect as faces
from tfds_builders import duplicates, pictures, sources

BLACK = "black"
UNREADABLE = "unreadable"

_AHEAD = 4  # pictures in flight per thread


@dataclasses.dataclass(frozen=True)
class Request:
    """One picture to crop, and what is known of the face in it.

    Attributes:
      id: The record's id.
      file: Its name in the source.
      view_box: Where faces lie in pictures of this camera view.
      face_box: x, y, width, height in pixels, as the set ships it.
      landmarks: float[5, 2] in pixels (`faces.Landmarks`), as the set ships them.
      pixels: Gives uint8[H, W, 3] RGB (or uint8[H, W] grey) where the picture is no file;
        called in order, from one thread.
      drops_black: Whether a picture that shows nothing is of no use.
      lossless: Whether to store as PNG what was no JPEG before.
    """

    id: str
    file: str
    view_box: faces.RelativeBox | None = None
    face_box: tuple[int, int, int, int] | None = None
    landmarks: faces.Landmarks | None = None
    pixels: Callable[[], np.ndarray] | None = None
    drops_black: bool = False
    lossless: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Crop:
    """A face cut out.

    Attributes:
      id: The record's id.
      encoded: The crop as a JPEG file; a PNG file where it is stored without loss.
      face: Where the face was in the picture, and how it was found.
      landmarks: float32[5, 2], shares of the crop's width and height; NaN where unknown.
      look: Its perceptual hashes (`duplicates.look`).
      digest: Of `encoded`, 16 hex digits.
      stand_in: Whether the file carried the mark of a stand-in.
    """

    id: str
    encoded: bytes
    face: faces.Face
    landmarks: np.ndarray
    look: bytes
    digest: str
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
    source: sources.Source, requests: Iterable[Request], settings: faces.FaceCrop
) -> Generator[Outcome, None, None]:
    """One outcome per request, in their order; a few pictures per core are in memory."""
    local = threading.local()

    def work(request: Request, picture: np.ndarray | None) -> Outcome:
        if not hasattr(local, "detector"):  # a detector keeps state: one per thread
            local.detector = settings.make_detector()
        return crop_one(source, request, settings, local.detector, picture)

    pending: collections.deque[futures.Future[Outcome]] = collections.deque()
    name = f"crops {id(local)}"
    pool = futures.ThreadPoolExecutor(threads(), thread_name_prefix=name)
    try:
        for request in requests:
            pending.append(_submit(pool, work, request))
            if len(pending) >= threads() * _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Python may collect an abandoned generator in one of these threads: it cannot await itself.
        is_own = threading.current_thread().name.startswith(name)
        pool.shutdown(wait=not is_own, cancel_futures=True)


def threads() -> int:
    """How many pictures are worked on at a time: one a core."""
    return len(os.sched_getaffinity(0))


def _submit(
    pool: futures.ThreadPoolExecutor,
    work: Callable[[Request, np.ndarray | None], Outcome],
    request: Request,
) -> futures.Future[Outcome]:
    """Pictures that are no files are made here, in order: frames of a video follow each other."""
    if request.pixels is None:
        return pool.submit(work, request, None)
    try:
        return pool.submit(work, request, request.pixels())
    except (pictures.UnreadableError, sources.MemberError) as error:
        failed: futures.Future[Outcome] = futures.Future()
        failed.set_result(Drop(request.id, request.file, UNREADABLE, str(error)))
        return failed


def crop_one(
    source: sources.Source,
    request: Request,
    settings: faces.FaceCrop,
    detector: faces.Detector,
    picture: np.ndarray | None = None,
) -> Outcome:
    """Reads, decodes, finds, cuts and encodes one picture; `picture` is one that is decoded."""
    data = b""
    if picture is None:
        try:
            data = source.read(request.file)
            picture = pictures.decode(data)
        except (pictures.UnreadableError, sources.MemberError) as error:
            return Drop(request.id, request.file, UNREADABLE, str(error))
    elif picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    if request.drops_black and pictures.is_black(picture):
        return Drop(request.id, request.file, BLACK, f"mean {picture.mean():.1f}")
    face, small, landmarks = cut(picture, request, settings, detector)
    if small is picture and pictures.is_colour_jpeg(data):
        encoded = data  # cut before, by the set's owners: their own bytes lose nothing
    elif request.lossless:
        encoded = pictures.encode_png(small)
    else:
        encoded = pictures.encode_jpeg(small, settings.quality)
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    marked = pictures.is_stand_in(data)
    return Crop(request.id, encoded, face, landmarks, duplicates.look(small), digest, marked)


def cut(
    picture: np.ndarray, request: Request, settings: faces.FaceCrop, detector: faces.Detector
) -> tuple[faces.Face, np.ndarray, np.ndarray]:
    """Finds the face and cuts it out.

    Returns:
      Where it was; uint8[H, W, 3], no longer than `settings.longest_side`; and the five
      landmarks as float32[5, 2], shares of that crop's width and height, NaN if unknown.
    """
    side = settings.longest_side
    if settings.method == "keep":
        height, width = picture.shape[:2]
        face = faces.Face((0, 0, width, height), "shipped")
        small = faces.shrink(picture, side)
        return face, small, _shares(request.landmarks, (0, 0), (width, height))
    if settings.method == "align" and _is_apart(request.landmarks):
        return _align(picture, request.landmarks, request.face_box, side)
    face = locate(picture, request, settings, detector)
    if settings.method == "align" and _is_apart(face.landmarks):
        return _align(picture, face.landmarks, face.box, side)
    points = face.landmarks if request.landmarks is None else request.landmarks
    left, top, length = faces.crop_origin(face.box, settings.margin)
    square = faces.crop_square(picture, face.box, settings.margin)
    landmarks = _shares(points, (left, top), (length, length))
    if settings.method == "align":
        return face, cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA), landmarks
    return face, faces.shrink(square, side), landmarks


def locate(
    picture: np.ndarray, request: Request, settings: faces.FaceCrop, detector: faces.Detector
) -> faces.Face:
    """Where the face is: the set's own box where that is asked for, else the detector's."""
    ships = settings.method in ("shipped", "align")
    if ships and request.face_box is not None:
        height, width = picture.shape[:2]
        return faces.Face(faces.clip(np.array(request.face_box), width, height), "shipped")
    return faces.find_face(picture, detector, request.view_box, settings.fallback)


def _align(
    picture: np.ndarray, points: Any, box: tuple[int, int, int, int] | None, side: int
) -> tuple[faces.Face, np.ndarray, np.ndarray]:
    """`cut` by landmarks; a face without a box has that of what is cut out."""
    points = np.asarray(points, np.float64)
    matrix = faces.alignment(points, side)
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]]) - matrix[:, 2]
    outline = np.linalg.solve(matrix[:, :2], corners.T).T
    around = np.concatenate([outline.min(axis=0), np.ptp(outline, axis=0)])
    chosen = faces.clip(around if box is None else np.array(box), width, height)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    aligned = faces.align(picture, points, side)
    return faces.Face(chosen, "aligned"), aligned, _shares(moved, (0, 0), (side, side))


def _is_apart(points: Any) -> bool:
    """Whether landmarks span something: some label files have zeros where nothing was marked."""
    if points is None:
        return False
    array = np.asarray(points, np.float64)
    return bool(np.isfinite(array).all() and np.ptp(array, axis=0).min() >= 2.0)


def _shares(
    points: Any,
    origin: tuple[int, int],
    size: tuple[int, int],
) -> np.ndarray:
    """Pixel centres to shares of a cut part of the picture."""
    if points is None:
        return np.full((5, 2), np.nan, np.float32)
    return ((np.asarray(points, np.float64) + 0.5 - origin) / size).astype(np.float32)
