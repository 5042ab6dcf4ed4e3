"""Morphable model of head and shoulders: a triangle mesh with blend shapes.

Reads `head.npz`, which `tools/build_head.py` makes from CC0 MakeHuman data.

Coordinates: x to the subject's left, y up, z towards the viewer, in decimeters. The
eyes are near y = 7.35, the chin near y = 6.28, the crown near y = 8.4.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np

HEAD_FILE = pathlib.Path(__file__).with_name("head.npz")

PARTS = (
    "body", "left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue",
    "left_lower_lashes", "left_upper_lashes", "right_lower_lashes", "right_upper_lashes", "hair",
)  # fmt: skip
"""Names of the part indices in `HeadModel.triangle_part`."""

BODY, LEFT_EYE, RIGHT_EYE, UPPER_TEETH, LOWER_TEETH, TONGUE = range(6)
LASHES = (6, 7, 8, 9)
UPPER_LASHES = (7, 9)
HAIR = 10

ANCESTRIES = ("african", "asian", "caucasian")
SEXES = ("female", "male")

_OPPOSITES = (
    ("decr", "incr"), ("in", "out"), ("down", "up"),
    ("backward", "forward"), ("concave", "convex"), ("compress", "uncompress"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class HeadModel:
    """A triangle mesh and its named blend shapes.

    Attributes:
      vertices: float32[V, 3], the base mesh, decimeters.
      texture_coordinates: float32[T, 2], UVs in [0, 1], v up.
      triangles: int32[F, 3], indices into `vertices`.
      triangle_texture: int32[F, 3], indices into `texture_coordinates`.
      triangle_part: int64[F], indices into `PARTS`.
      shape_names: names of the blend shapes: "macro/...", "local/...", "asym/...", "unit/...".
      shapes: float32[S, V * 3], displacements at weight 1, decimeters.
      masks: uint8[1024, 1024] per name, in UV space: lips, eyelids, ...
    """

    vertices: np.ndarray
    texture_coordinates: np.ndarray
    triangles: np.ndarray
    triangle_texture: np.ndarray
    triangle_part: np.ndarray
    shape_names: tuple[str, ...]
    shapes: np.ndarray
    masks: Mapping[str, np.ndarray]

    @functools.cached_property
    def shape_index(self) -> dict[str, int]:
        """Row of `shapes` by shape name."""
        return {name: index for index, name in enumerate(self.shape_names)}

    @functools.cached_property
    def opposite_pairs(self) -> tuple[tuple[str, str], ...]:
        """Opposite local shapes, as (negative, positive)."""
        pairs = []
        for name in self._local_shapes:
            for negative, positive in _OPPOSITES:
                if name.endswith("-" + negative):
                    other = name.removesuffix(negative) + positive
                    if other in self.shape_index:
                        pairs.append((name, other))
                    break
        return tuple(pairs)

    @functools.cached_property
    def single_shapes(self) -> tuple[str, ...]:
        """Local shapes without an opposite, such as those of the whole head."""
        endings = tuple("-" + word for pair in _OPPOSITES for word in pair)
        return tuple(name for name in self._local_shapes if not name.endswith(endings))

    @functools.cached_property
    def asymmetries(self) -> tuple[str, ...]:
        """Shapes that displace one side only."""
        return tuple(n for n in self.shape_names if n.startswith("asym/") and "asymm" not in n)

    @property
    def _local_shapes(self) -> list[str]:
        return [name for name in self.shape_names if name.startswith("local/")]

    @functools.cached_property
    def vertex_part(self) -> np.ndarray:
        """Part index of each vertex, int64[V]; parts share no vertex."""
        parts = np.zeros(len(self.vertices), np.int64)
        parts[self.triangles] = self.triangle_part[:, None]
        return parts

    @functools.cached_property
    def rest(self) -> np.ndarray:
        """Vertices float32[V, 3] of the mean young head, which define rest space."""
        share = 0.5 / len(ANCESTRIES)
        names = [f"macro/{a}-{s}-young" for s in SEXES for a in ANCESTRIES]
        return self.blend(self.vertices, dict.fromkeys(names, share))

    def blend(self, vertices: np.ndarray, weights: Mapping[str, float]) -> np.ndarray:
        """Adds the weighted shapes to `vertices` float32[V, 3]; an unknown name is a KeyError."""
        used = {self.shape_index[name]: weight for name, weight in weights.items() if weight}
        if not used:
            return vertices
        weight = np.fromiter(used.values(), np.float32, len(used))
        # einsum instead of a BLAS product, whose rounding depends on the number of threads.
        moved = np.einsum("s,sn->n", weight, self.shapes[list(used)])
        return vertices + moved.reshape(-1, 3)


@functools.cache
def load_head(path: pathlib.Path = HEAD_FILE) -> HeadModel:
    """Reads the model (30 MB); cached per process."""
    with np.load(path) as stored:
        names = tuple(str(name) for name in stored["shape_names"])
        steps = stored["shape_steps"].astype(np.float32)[:, None, None]
        shapes = stored["shapes"].astype(np.float32) * steps
        return HeadModel(
            vertices=stored["vertices"],
            texture_coordinates=stored["texture_coordinates"],
            triangles=stored["triangles"],
            triangle_texture=stored["triangle_texture"],
            triangle_part=stored["triangle_part"].astype(np.int64),
            shape_names=names,
            shapes=shapes.reshape(len(names), -1),
            masks={k.removeprefix("mask_"): stored[k] for k in stored.files if k[:5] == "mask_"},
        )
