"""Images to face crops: read, decode, find the face, crop and encode, on all cores.

OpenCV and zlib release the interpreter lock, so threads suffice. Results come in the order of
the input, and only a few images are in memory at a time. Labels and splits are decided elsewhere.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from typing import TypeAlias

import cv2
import numpy as np

from fer_jax.faces.align import Landmarks, alignment, are_distinct
from fer_jax.faces.crop import (
    FaceCrop,
    RelativeBox,
    crop_origin,
    find_face,
    pad_square,
    shrink,
)
from fer_jax.faces.decode import UnreadableError, decode, is_color_jpeg
from fer_jax.faces.detect import Detector, Face, clip
from fer_jax.faces.framing import landmark_shares, store_face
from tfds_builders import duplicates, sources
from tfds_builders.encode import encode_jpeg, encode_png
from tfds_builders.stand_in_mark import is_stand_in

BLACK = "black"
UNREADABLE = "unreadable"

_BLACK_MEAN = 10.0  # KDEF's black images are below it, lit ones far above
_IN_FLIGHT = 4  # images per thread


@dataclasses.dataclass(frozen=True)
class Request:
    """One image to crop, and what is known of the face in it.

    Attributes:
      id: id of the record.
      file: name of the image in the source.
      view_box: where faces are in images of this camera view.
      face_box: x, y, width, height in pixels, as the set ships it.
      landmarks: float[5, 2] in pixels (`faces.align.Landmarks`), as the set ships them.
      pixels: returns the image as uint8[H, W, 3] RGB or uint8[H, W] gray, if it is not a file;
        called in order, from one thread.
      drops_black: whether to drop black images.
      lossless: whether to store the crop as PNG unless the image is a JPEG stored unchanged.
    """

    id: str
    file: str
    view_box: RelativeBox | None = None
    face_box: tuple[int, int, int, int] | None = None
    landmarks: Landmarks | None = None
    pixels: Callable[[], np.ndarray] | None = None
    drops_black: bool = False
    lossless: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Crop:
    """A face crop.

    Attributes:
      id: id of the record.
      encoded: the crop as a JPEG file, or as a PNG file if lossless.
      face: where the face was in the image, and how it was found.
      landmarks: float32[5, 2], shares of the crop's width and height; NaN if unknown.
      look: perceptual hashes of the crop (`duplicates.look`).
      digest: hash of `encoded`, 16 hex digits.
      stand_in: whether the file carried the mark of a stand-in.
    """

    id: str
    encoded: bytes
    face: Face
    landmarks: np.ndarray
    look: bytes
    digest: str
    stand_in: bool


@dataclasses.dataclass(frozen=True)
class Drop:
    """An image that is not used: its id, file and reason, and a detail for the user."""

    id: str
    file: str
    reason: str
    detail: str


Outcome: TypeAlias = Crop | Drop


def crop_all(
    source: sources.Source, requests: Iterable[Request], settings: FaceCrop
) -> Generator[Outcome, None, None]:
    """Yields one outcome per request, in order; holds a few images per core in memory."""
    local = threading.local()

    def work(request: Request, image: np.ndarray | None) -> Outcome:
        if not hasattr(local, "detector"):  # detectors are not thread-safe
            local.detector = settings.make_detector()
        return crop_one(source, request, settings, local.detector, image)

    pending: collections.deque[futures.Future[Outcome]] = collections.deque()
    name = f"crops {id(local)}"
    pool = futures.ThreadPoolExecutor(threads(), thread_name_prefix=name)
    try:
        for request in requests:
            pending.append(_submit(pool, work, request))
            if len(pending) >= threads() * _IN_FLIGHT:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Python may collect an abandoned generator in a thread of the pool, which cannot
        # wait for itself.
        in_pool = threading.current_thread().name.startswith(name)
        pool.shutdown(wait=not in_pool, cancel_futures=True)


def threads() -> int:
    """The number of images processed at a time: one per core."""
    return len(os.sched_getaffinity(0))


def _submit(
    pool: futures.ThreadPoolExecutor,
    work: Callable[[Request, np.ndarray | None], Outcome],
    request: Request,
) -> futures.Future[Outcome]:
    """Calls `request.pixels` in this thread, because frames of a video must come in order."""
    if request.pixels is None:
        return pool.submit(work, request, None)
    try:
        return pool.submit(work, request, request.pixels())
    except (UnreadableError, sources.MemberError) as error:
        failed: futures.Future[Outcome] = futures.Future()
        failed.set_result(Drop(request.id, request.file, UNREADABLE, str(error)))
        return failed


def crop_one(
    source: sources.Source,
    request: Request,
    settings: FaceCrop,
    detector: Detector,
    image: np.ndarray | None = None,
) -> Outcome:
    """Reads, decodes, crops and encodes one image; `image` is given if decoded already."""
    data = b""
    if image is None:
        try:
            data = source.read(request.file)
            image = decode(data)
        except (UnreadableError, sources.MemberError) as error:
            return Drop(request.id, request.file, UNREADABLE, str(error))
    elif image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if request.drops_black and float(image.mean()) < _BLACK_MEAN:
        return Drop(request.id, request.file, BLACK, f"mean {image.mean():.1f}")
    face, cropped, landmarks = crop_face(image, request, settings, detector)
    if cropped is image and is_color_jpeg(data):
        encoded = data  # the set ships this crop: the original bytes lose nothing
    elif request.lossless:
        encoded = encode_png(cropped)
    else:
        encoded = encode_jpeg(cropped, settings.quality)
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    look = duplicates.look(cropped)
    return Crop(request.id, encoded, face, landmarks, look, digest, is_stand_in(data))


def crop_face(
    image: np.ndarray, request: Request, settings: FaceCrop, detector: Detector
) -> tuple[Face, np.ndarray, np.ndarray]:
    """Finds the face of an image and crops it.

    Returns:
      The face in the image; the crop, uint8[H, W, 3], no larger than `settings.longest_side`;
      and the five landmarks as float32[5, 2] shares of the crop's width and height, NaN if
      unknown.
    """
    if settings.method in ("keep", "pad"):
        height, width = image.shape[:2]
        face, origin, size = Face((0, 0, width, height), "shipped"), (0, 0), (width, height)
        small = shrink(image, settings.longest_side)
        if settings.method == "pad":
            left, top, length = crop_origin(face.box, 0.0)
            small, origin, size = pad_square(small), (left, top), (length, length)
        return face, small, _known(landmark_shares(request.landmarks, origin, size))
    aligns, given = settings.method == "align", request.landmarks
    if aligns and given is not None and not are_distinct(given):
        given = None  # such as zeros for missing ones
    if aligns and given is not None:
        face = Face(_aligned_box(image, request, settings.longest_side), "aligned")
    else:
        face = locate(image, request, settings, detector)
    points = face.landmarks if given is None else tuple((float(x), float(y)) for x, y in given)
    with_points = dataclasses.replace(face, landmarks=points)
    cropped, landmarks = store_face(image, with_points, settings)
    if aligns and points is not None and are_distinct(points):
        face = Face(face.box, "aligned")
    return face, cropped, _known(landmarks)


def locate(image: np.ndarray, request: Request, settings: FaceCrop, detector: Detector) -> Face:
    """Returns the set's face box if the settings use it, else the detector's face."""
    uses_shipped = settings.method in ("shipped", "align")
    if uses_shipped and request.face_box is not None:
        height, width = image.shape[:2]
        return Face(clip(np.array(request.face_box), width, height), "shipped")
    return find_face(image, detector, request.view_box, settings.fallback)


def _aligned_box(image: np.ndarray, request: Request, side: int) -> tuple[int, int, int, int]:
    """Returns the box of a face with landmarks: the set's, or that of the aligned crop."""
    height, width = image.shape[:2]
    if request.face_box is not None:
        return clip(np.array(request.face_box), width, height)
    matrix = alignment(np.asarray(request.landmarks, np.float64), side)
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]]) - matrix[:, 2]
    outline = np.linalg.solve(matrix[:, :2], corners.T).T
    return clip(np.concatenate([outline.min(axis=0), np.ptp(outline, axis=0)]), width, height)


def _known(landmarks: np.ndarray | None) -> np.ndarray:
    """Landmarks as records store them: NaN if unknown."""
    return np.full((5, 2), np.nan, np.float32) if landmarks is None else landmarks
