"""Images to face crops: read, decode, find the face, crop and encode, on all cores.

Results come in the order of the input, and only a few images are in memory at a time. Labels and
splits are decided elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent import futures
from typing import TypeAlias

import cv2
import numpy as np

from fer_jax.executor import Executor, cores
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
PIECE = 8
"""Images that a worker crops at a time: sending one by one would cost more than a small image."""


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
Content: TypeAlias = bytes | np.ndarray | Drop
"""A file, an image as `Request.pixels` returns it, or why there is neither."""
Loaded: TypeAlias = tuple[Request, Content]


def crop_all(
    source: sources.Source,
    requests: Iterable[Request],
    settings: FaceCrop,
    executor: Executor | None = None,
) -> Generator[Outcome, None, None]:
    """Yields one outcome per request, in order; holds a few images per worker in memory.

    Args:
      source: of the images; read in this process.
      requests: what to crop.
      settings: how.
      executor: who crops; one thread per core by default, for OpenCV releases the interpreter lock.
    """
    executor = executor or Executor(cores(), processes=False)
    make = functools.partial(_cropper, settings)
    with contextlib.closing(executor.map(make, _read_all(source, requests))) as results:
        for outcomes in results:
            yield from outcomes


def _cropper(settings: FaceCrop) -> Callable[[Sequence[Loaded]], list[Outcome]]:
    """Returns what crops the images of a piece; detectors have internal state: one per worker."""
    detector = settings.make_detector()

    def crop_piece(piece: Sequence[Loaded]) -> list[Outcome]:
        return [crop_one(*loaded, settings, detector) for loaded in piece]

    return crop_piece


def _read_all(source: sources.Source, requests: Iterable[Request]) -> Iterator[list[Loaded]]:
    """Yields the requests with their images, `PIECE` at a time."""
    waiting = iter(requests)
    with futures.ThreadPoolExecutor(PIECE) as readers:  # a shared disk answers late
        while piece := list(itertools.islice(waiting, PIECE)):
            yield list(readers.map(functools.partial(_read, source), piece, map(_pixels, piece)))


def _pixels(request: Request) -> Content | None:
    """Calls `request.pixels` in this thread; None if the image is a file."""
    try:
        return request.pixels() if request.pixels else None
    except (UnreadableError, sources.MemberError) as error:
        return Drop(request.id, request.file, UNREADABLE, str(error))


def _read(source: sources.Source, request: Request, content: Content | None) -> Loaded:
    """Reads the file of an image without pixels; a result that another process can get."""
    if content is None:
        try:
            content = source.read(request.file)
        except sources.MemberError as error:
            content = Drop(request.id, request.file, UNREADABLE, str(error))
    return dataclasses.replace(request, pixels=None), content


def crop_one(request: Request, content: Content, settings: FaceCrop, detector: Detector) -> Outcome:
    """Decodes, crops and encodes one image."""
    data = b""
    if isinstance(content, Drop):
        return content
    if isinstance(content, bytes):
        try:
            data, image = content, decode(content)
        except UnreadableError as error:
            return Drop(request.id, request.file, UNREADABLE, str(error))
    else:
        image = content if content.ndim == 3 else cv2.cvtColor(content, cv2.COLOR_GRAY2RGB)
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
