"""Rendered faces for stand-ins: a pool rendered once, many pictures from each.

A full-size stand-in has tens of thousands of pictures. A pool renders each person and
expression once, on all cores, and `vary` makes pictures of it that differ as photographs
do: pose in the plane, light, color, sharpness. Also marks the files, so that no copy of a
stand-in passes for the real set. What a set's files are called is in each set's folder.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import multiprocessing
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tfds_builders import pictures
from tfds_builders.synthface import Spec, render_subject
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.spec import PERSON

_CHUNK = 4  # people that a worker renders at a time
_PARTIAL = ".partial"  # ending of a file that is being written
_FEW = 12  # people that are rendered sooner than a process is started

# How far two pictures of one render may differ; wide enough that perceptual hashes do.
_TURN = 9.0  # degrees, one deviation
_SHIFT = 0.03  # of the picture's side, one deviation
_ZOOM = 0.07  # one deviation, as a share
_BEND = 0.012  # of the side: faces of one person do not have one shape in every picture
_LIGHT = 0.25  # soft shadows, one deviation
_GAIN, _TINT = 0.12, 0.07


@dataclasses.dataclass(frozen=True, eq=False)
class PooledFace:
    """A face and where it is.

    Attributes:
      image: uint8[S, S, 3], RGB.
      label: One of `labels.EMOTIONS`.
      person: Its number in the pool.
      face_box: x, y, width, height in pixels of `image`, brows to chin.
      landmarks: float32[5, 2] in pixels: eyes, tip of the nose, corners of the mouth, picture
        left first.
      yaw: Of the camera, in degrees.
      gaze: "frontal", "left" or "right".
      sex, age: 0 female to 1 male; 0 young to 1 old.
    """

    image: np.ndarray
    label: str
    person: int
    face_box: tuple[float, float, float, float]
    landmarks: np.ndarray
    yaw: float = 0.0
    gaze: str = "frontal"
    sex: float = 0.0
    age: float = 0.0


@dataclasses.dataclass(frozen=True)
class FacePool:
    """People with one picture of each expression, view and gaze; a value, so it can be a key.

    Attributes:
      seed: Other seeds give other people: each set has its own.
      people: How many.
      labels: The emotions that each shows.
      size: Side of the pictures, pixels.
      yaws: Of the cameras, degrees.
      gazes: Directions of the eyes.
      wild: 0 studio to 1 in the wild, see `tfds_builders.synthface.Spec`.
      fill: Range of the head's share of the picture's height.
    """

    seed: int
    people: int
    labels: tuple[str, ...]
    size: int = 128
    yaws: tuple[float, ...] = (0.0,)
    gazes: tuple[str, ...] = ("frontal",)
    wild: float = 0.0
    fill: tuple[float, float] = (0.62, 0.74)

    def __len__(self) -> int:
        """How many faces the pool has."""
        return self.people * len(self.labels) * len(self.yaws) * len(self.gazes)

    def face(self, person: int, label: str, yaw: float = 0.0, gaze: str = "frontal") -> PooledFace:
        """One face; `person` may be any number, the pool repeats. Renders the pool if it must."""
        return self.faces()[person % self.people, label, yaw, gaze]

    def faces(self) -> dict[tuple[int, str, float, str], PooledFace]:
        """All faces by person, label, yaw and gaze; kept for the life of the process."""
        return _faces_of(self)

    def spec(self) -> Spec:
        """What the renderer is asked for."""
        return Spec(
            "stand_in",
            seed=self.seed,
            subjects=self.people,
            size=self.size,
            expressions=self.labels,
            yaws=self.yaws,
            gazes=self.gazes,
            wild=self.wild,
            fill=self.fill,
            supersample=1,
        )


def render(spec: Spec, index: int) -> list[PooledFace]:
    """Person number `index` of `spec`, every picture; for a set that is rendered as a whole."""
    return [
        PooledFace(
            image=one.image,
            label=one.expression,
            person=index,
            face_box=one.face_box,
            landmarks=one.landmarks,
            yaw=one.yaw,
            gaze=one.gaze,
            sex=one.sex,
            age=one.age,
        )
        for one in render_subject(spec, index)
    ]


def process_pool() -> concurrent.futures.ProcessPoolExecutor:
    """A process for each core. Spawned: a fork would copy whatever threads the caller has."""
    return concurrent.futures.ProcessPoolExecutor(
        max_workers=len(os.sched_getaffinity(0)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )


def run_jobs(function: Callable[..., int], jobs: Sequence[tuple[Any, ...]]) -> Iterator[int]:
    """What `function`, one of a module, gives for the arguments of each job, as they finish.

    In processes of their own, unless there are so few that starting those would take longer.
    """
    if len(jobs) <= _FEW:
        yield from (function(*job) for job in jobs)
        return
    with process_pool() as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()


def vary(face: PooledFace, key: str, *, strength: float = 1.0, mirror: bool = True) -> PooledFace:
    """Another picture of the same face, at the same size.

    Args:
      face: From a pool.
      key: Decides the picture: the name of the file that it is for.
      strength: 0 leaves the face as it is, 1 is a photograph on another day.
      mirror: Whether half of the pictures are mirrored; not where the gaze or view counts.

    Returns:
      The face with its box and landmarks moved along. The same for the same arguments.
    """
    rng = _stream(key)
    if mirror and rng.random() < 0.5:
        face = _mirrored(face)
    moved = _moved(face, rng, strength)
    return dataclasses.replace(moved, image=_relit(moved.image, rng, strength))


def place(
    face: PooledFace,
    size: tuple[int, int],
    center: tuple[float, float],
    height: float,
) -> PooledFace:
    """The face in a picture of another size and framing; its surroundings are continued.

    Args:
      face: From a pool.
      size: Width and height of the picture in pixels.
      center: Where the middle of the face box goes, in pixels.
      height: Of the face box there, in pixels.

    Returns:
      The face in uint8[height, width, 3], with its box and landmarks moved along.
    """
    x, y, width, tall = face.face_box
    scale = height / tall
    shift = np.array(center) - scale * np.array([x + width / 2, y + tall / 2])
    matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    image = cv2.warpAffine(
        face.image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return _transformed(face, image, matrix)


def jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """`image` (uint8[H, W, 3], RGB) as a JPEG file with the mark of a stand-in."""
    return pictures.mark_stand_in(pictures.encode_jpeg(image, quality))


def png(image: np.ndarray) -> bytes:
    """`image` (uint8[H, W, 3], RGB) as a PNG file with the mark of a stand-in."""
    return pictures.mark_stand_in(pictures.encode_png(image))


def write_file(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all, so that a killed stand-in can go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    partial.write_bytes(data)
    os.replace(partial, path)


def pack(folder: Path, target: Path, root: Path) -> None:
    """Replaces a folder by a zip of its files, named from `root` on."""
    partial = target.with_name(f".{target.name}{_PARTIAL}")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:  # pictures do not shrink
        for file in sorted(one for one in folder.rglob("*") if one.is_file()):
            if file.suffix != _PARTIAL:  # left by a run that was killed
                archive.write(file, file.relative_to(root))
    os.replace(partial, target)
    shutil.rmtree(folder)


def indices_by_sex(spec: Spec, women: int, men: int) -> tuple[list[int], list[int]]:
    """The renderer's first so many women and men of `spec`, as numbers for `render`."""
    head = load_head()
    found: tuple[list[int], list[int]] = ([], [])
    index = 0
    while len(found[0]) < women or len(found[1]) < men:
        person = draw_person(head, spec.rng(index, PERSON), spec.glasses)
        found[person.male > 0.5].append(index)
        index += 1
    return found[0][:women], found[1][:men]


@functools.cache
def _faces_of(pool: FacePool) -> dict[tuple[int, str, float, str], PooledFace]:
    if len(pool) <= 64:  # quicker than starting processes
        found = _render_people(pool, range(pool.people))
    else:
        found = list(_render_in_parallel(pool))
    return {(one.person, one.label, one.yaw, one.gaze): one for one in found}


def _render_in_parallel(pool: FacePool) -> Iterator[PooledFace]:
    chunks = [
        range(start, min(start + _CHUNK, pool.people)) for start in range(0, pool.people, _CHUNK)
    ]
    with process_pool() as processes:
        for some in processes.map(_render_people, [pool] * len(chunks), chunks):
            yield from some


def _render_people(pool: FacePool, people: range) -> list[PooledFace]:
    return [one for index in people for one in render(pool.spec(), index)]


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _stream(key: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))


def _mirrored(face: PooledFace) -> PooledFace:
    side = face.image.shape[1]
    x, y, width, height = face.face_box
    points = face.landmarks.copy()
    points[:, 0] = side - points[:, 0]
    return dataclasses.replace(
        face,
        image=np.ascontiguousarray(face.image[:, ::-1]),
        face_box=(side - x - width, y, width, height),
        landmarks=points[[1, 0, 2, 4, 3]],  # the one at picture left comes first
        yaw=-face.yaw,
    )


def _moved(face: PooledFace, rng: np.random.Generator, strength: float) -> PooledFace:
    """Turned, shifted, zoomed and slightly bent."""
    side = face.image.shape[0]
    turn, zoom = rng.normal(0, _TURN) * strength, float(np.exp(rng.normal(0, _ZOOM) * strength))
    matrix: np.ndarray = cv2.getRotationMatrix2D((side / 2, side / 2), turn, zoom)
    matrix[:, 2] = matrix[:, 2] + rng.normal(0, _SHIFT * side, 2) * strength
    back = cv2.invertAffineTransform(matrix)
    columns, rows = np.meshgrid(np.arange(side), np.arange(side))
    places = np.stack([columns, rows, np.ones_like(rows)], -1) @ back.T
    bend = _smooth(rng, side, 3, 2) * (_BEND * side * strength)
    where = (places + bend).astype(np.float32)
    nowhere = np.empty(0, np.float32)  # both coordinates are in `where`
    image = cv2.remap(
        face.image, where, nowhere, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    moved = _transformed(face, image, matrix)
    at = np.clip(moved.landmarks.round().astype(int), 0, side - 1)
    unbent = dataclasses.replace(face, landmarks=face.landmarks - bend[at[:, 1], at[:, 0]])
    return dataclasses.replace(moved, landmarks=_transformed(unbent, image, matrix).landmarks)


def _transformed(face: PooledFace, image: np.ndarray, matrix: np.ndarray) -> PooledFace:
    """Box and landmarks follow the affine `matrix` (float[2, 3]); the box stays upright."""
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


def _relit(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """In another light, by another camera."""
    side = image.shape[0]
    light = np.exp(_smooth(rng, side, 3, 1) * (_LIGHT * strength) + rng.normal(0, _GAIN) * strength)
    tint = np.exp(rng.normal(0, _TINT, 3) * strength)
    lit = image * (light * tint).astype(np.float32)
    blur = abs(rng.normal(0, 0.004)) * side * strength
    if blur > 0.3:
        lit = cv2.GaussianBlur(lit, (0, 0), blur)
    lit += rng.normal(0, 1.5 * strength, image.shape).astype(np.float32)
    return np.clip(lit, 0, 255).astype(np.uint8)


def _smooth(rng: np.random.Generator, side: int, cells: int, channels: int) -> np.ndarray:
    """float32[side, side, channels] of about unit deviation that changes slowly."""
    coarse = rng.normal(0, 1, (cells, cells, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(side, side, channels)
