"""Tools shared by the stand-ins: a pool of rendered faces, image variations, marked files.

A full-size stand-in has tens of thousands of images. A pool renders each person and
expression once, on all cores; `vary` derives images that differ in pose, light, color and
sharpness. Image files carry a mark, so that a stand-in cannot be mistaken for the real set.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fer_jax.executor import Executor, cores
from tfds_builders.encode import encode_jpeg, encode_png
from tfds_builders.stand_in_mark import mark_stand_in
from tfds_builders.synthface import Spec, render_subject
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.spec import PERSON

_CHUNK = 4  # people per task of a worker process
_PARTIAL = ".partial"  # suffix of a file that is being written
_FEW_JOBS = 12  # the most jobs that are faster without worker processes
_FEW_FACES = 64  # the most faces that are faster without worker processes

# Standard deviations of the variations: large enough to change perceptual hashes.
_ROTATION = 9.0  # degrees
_SHIFT = 0.03  # fraction of the image side
_ZOOM = 0.07  # log scale
_BEND = 0.012  # smooth deformation, fraction of the image side
_LIGHT = 0.25  # smooth shading, log scale
_GAIN, _TINT = 0.12, 0.07  # log scale


@dataclasses.dataclass(frozen=True, eq=False)
class PooledFace:
    """An image of a face, with ground truth.

    Attributes:
      image: uint8[H, W, 3], RGB.
      label: one of `labels.EMOTIONS`.
      person: index of the person.
      face_box: x, y, width, height in pixels, brows to chin.
      landmarks: float32[5, 2] in pixels: eyes, nose tip, mouth corners, image left first.
      sex: 0 (female) to 1 (male).
      age: 0 (young) to 1 (old).
    """

    image: np.ndarray
    label: str
    person: int
    face_box: tuple[float, float, float, float]
    landmarks: np.ndarray
    sex: float = 0.0
    age: float = 0.0


@dataclasses.dataclass(frozen=True)
class FacePool:
    """People with one frontal image per expression; hashable, since rendered pools are cached.

    Attributes:
      seed: another seed gives other people.
      people: number of people.
      labels: the emotions that each person shows.
      size: side of the images, pixels.
      wild: 0 (studio) to 1 (in the wild).
      fill: range of the head height as a fraction of the image height.
    """

    seed: int
    people: int
    labels: tuple[str, ...]
    size: int = 128
    wild: float = 0.0
    fill: tuple[float, float] = (0.62, 0.74)

    def __len__(self) -> int:
        """Number of faces."""
        return self.people * len(self.labels)

    def face(self, person: int, label: str) -> PooledFace:
        """Returns one face; `person` counts modulo the number of people."""
        return self.faces()[person % self.people, label]

    def faces(self) -> dict[tuple[int, str], PooledFace]:
        """Returns all faces by person and label; rendered once per process."""
        return _faces_of(self)

    def spec(self) -> Spec:
        """Returns the renderer's specification."""
        return make_spec(self.seed, self.size, self.labels, self.fill, wild=self.wild)


def make_spec(
    seed: int, size: int, labels: tuple[str, ...], fill: tuple[float, float], **fields: Any
) -> Spec:
    """Returns a spec without supersampling and without a number of people, for `render`."""
    return Spec("stand_in", seed, 0, size, labels, fill=fill, supersample=1, **fields)


def render(spec: Spec, index: int) -> list[PooledFace]:
    """Renders all images of person `index` of `spec`."""
    return [
        PooledFace(
            image=face.image,
            label=face.expression,
            person=index,
            face_box=face.face_box,
            landmarks=face.landmarks,
            sex=face.sex,
            age=face.age,
        )
        for face in render_subject(spec, index)
    ]


def run_jobs(
    function: Callable[..., int], jobs: Sequence[tuple[Any, ...]], in_process: int = _FEW_JOBS
) -> Iterator[int]:
    """Calls a module-level function for each job and yields its results, in order.

    Args:
      function: what to call; must be picklable.
      jobs: arguments of each call.
      in_process: the most jobs to run without worker processes.
    """
    if len(jobs) <= in_process:
        yield from (function(*job) for job in jobs)
        return
    yield from Executor(cores()).map(functools.partial(_caller, function), jobs)


def _caller(function: Callable[..., int]) -> Callable[[tuple[Any, ...]], int]:
    return lambda job: function(*job)


def vary(face: PooledFace, key: str, *, strength: float = 1.0, mirror: bool = True) -> PooledFace:
    """Returns a variation of an image, at the same size. Deterministic given the arguments.

    Args:
      face: the face to vary.
      key: seeds the variation; usually the file name.
      strength: 0 changes nothing, 1 is like a photo of another day.
      mirror: whether to mirror half of the images; False where gaze or yaw matters.

    Returns:
      The face with transformed box and landmarks.
    """
    rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    if mirror and rng.random() < 0.5:
        face = _mirror(face)
    warped = _warp(face, rng, strength)
    return dataclasses.replace(warped, image=_relight(warped.image, rng, strength))


def place(
    face: PooledFace,
    size: tuple[int, int],
    center: tuple[float, float],
    height: float,
) -> PooledFace:
    """Scales and shifts a face into an image of another size; replicates the border.

    Args:
      face: the face to place.
      size: width and height of the new image, pixels.
      center: center of the face box in the new image, pixels.
      height: height of the face box in the new image, pixels.

    Returns:
      The face in uint8[height, width, 3], with transformed box and landmarks.
    """
    x, y, width, tall = face.face_box
    scale = height / tall
    shift = np.array(center) - scale * np.array([x + width / 2, y + tall / 2])
    matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    image = cv2.warpAffine(
        face.image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return _transform(face, image, matrix)


def jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """Encodes uint8[H, W, 3] RGB as a JPEG file with the mark of a stand-in."""
    return mark_stand_in(encode_jpeg(image, quality))


def png(image: np.ndarray) -> bytes:
    """Encodes uint8[H, W, 3] RGB or uint8[H, W] as a PNG file with the mark of a stand-in."""
    return mark_stand_in(encode_png(image))


def bmp(image: np.ndarray) -> bytes:
    """Encodes uint8[H, W, 3] RGB as a BMP file with the mark of a stand-in."""
    return mark_stand_in(cv2.imencode(".bmp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def write_file(path: Path, data: bytes) -> None:
    """Writes a file atomically and creates its folder, so that an interrupted run can resume."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    partial.write_bytes(data)
    os.replace(partial, path)


def pack(folder: Path, target: Path, root: Path) -> None:
    """Replaces a folder by the zip `target`, with names relative to `root`."""
    partial = target.with_name(f".{target.name}{_PARTIAL}")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:  # images are compressed
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            if file.suffix != _PARTIAL:  # left by an interrupted run
                archive.write(file, file.relative_to(root))
    os.replace(partial, target)
    shutil.rmtree(folder)


def indices_by_sex(spec: Spec, women: int, men: int) -> tuple[list[int], list[int]]:
    """Returns the indices of the first women and men of `spec`, for `render`."""
    head = load_head()
    by_sex: tuple[list[int], list[int]] = ([], [])
    index = 0
    while len(by_sex[0]) < women or len(by_sex[1]) < men:
        person = draw_person(head, spec.rng(index, PERSON), spec.glasses)
        by_sex[person.male > 0.5].append(index)
        index += 1
    return by_sex[0][:women], by_sex[1][:men]


@functools.cache
def _faces_of(pool: FacePool) -> dict[tuple[int, str], PooledFace]:
    chunks = [
        range(start, min(start + _CHUNK, pool.people)) for start in range(0, pool.people, _CHUNK)
    ]
    executor = Executor(cores(), processes=len(pool) > _FEW_FACES)
    rendered = executor.map(functools.partial(_renderer, pool), chunks)
    return {(face.person, face.label): face for faces in rendered for face in faces}


def _renderer(pool: FacePool) -> Callable[[range], list[PooledFace]]:
    """Returns what renders a few people."""
    return lambda people: [face for index in people for face in render(pool.spec(), index)]


def _mirror(face: PooledFace) -> PooledFace:
    side = face.image.shape[1]
    x, y, width, height = face.face_box
    points = face.landmarks.copy()
    points[:, 0] = side - points[:, 0]
    return dataclasses.replace(
        face,
        image=np.ascontiguousarray(face.image[:, ::-1]),
        face_box=(side - x - width, y, width, height),
        landmarks=points[[1, 0, 2, 4, 3]],  # image left first
    )


def _warp(face: PooledFace, rng: np.random.Generator, strength: float) -> PooledFace:
    """Rotates, shifts, scales and slightly deforms an image."""
    side = face.image.shape[0]
    angle = rng.normal(0, _ROTATION) * strength
    zoom = float(np.exp(rng.normal(0, _ZOOM) * strength))
    matrix: np.ndarray = cv2.getRotationMatrix2D((side / 2, side / 2), angle, zoom)
    matrix[:, 2] = matrix[:, 2] + rng.normal(0, _SHIFT * side, 2) * strength
    inverse = cv2.invertAffineTransform(matrix)
    columns, rows = np.meshgrid(np.arange(side), np.arange(side))
    sources = np.stack([columns, rows, np.ones_like(rows)], -1) @ inverse.T
    bend = _smooth_noise(rng, side, 3, 2) * (_BEND * side * strength)
    sources = (sources + bend).astype(np.float32)
    unused = np.empty(0, np.float32)  # `sources` has both coordinates
    image = cv2.remap(
        face.image, sources, unused, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    warped = _transform(face, image, matrix)
    at = np.clip(warped.landmarks.round().astype(int), 0, side - 1)
    unbent = dataclasses.replace(face, landmarks=face.landmarks - bend[at[:, 1], at[:, 0]])
    return dataclasses.replace(warped, landmarks=_transform(unbent, image, matrix).landmarks)


def _transform(face: PooledFace, image: np.ndarray, matrix: np.ndarray) -> PooledFace:
    """Applies an affine matrix float[2, 3] to box and landmarks; the box stays axis-aligned."""
    x, y, width, height = face.face_box
    center = matrix @ (x + width / 2, y + height / 2, 1.0)
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    box = (
        float(center[0] - zoom * width / 2),
        float(center[1] - zoom * height / 2),
        zoom * width,
        zoom * height,
    )
    points = (face.landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    return dataclasses.replace(face, image=image, face_box=box, landmarks=points)


def _relight(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Changes brightness, color balance and sharpness, and adds sensor noise."""
    side = image.shape[0]
    shading = _smooth_noise(rng, side, 3, 1) * (_LIGHT * strength)
    light = np.exp(shading + rng.normal(0, _GAIN) * strength)
    tint = np.exp(rng.normal(0, _TINT, 3) * strength)
    lit = image * (light * tint).astype(np.float32)
    blur = abs(rng.normal(0, 0.004)) * side * strength
    if blur > 0.3:
        lit = cv2.GaussianBlur(lit, (0, 0), blur)
    lit += rng.normal(0, 1.5 * strength, image.shape).astype(np.float32)
    return np.clip(lit, 0, 255).astype(np.uint8)


def _smooth_noise(rng: np.random.Generator, side: int, cells: int, channels: int) -> np.ndarray:
    """Low-frequency noise float32[side, side, channels], standard deviation about 1."""
    coarse = rng.normal(0, 1, (cells, cells, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(side, side, channels)
