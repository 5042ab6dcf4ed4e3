"""Finds near-duplicate images, also mirrored, cropped, shifted, rotated and brightened ones.

Two copies of a photograph, or adjacent frames of a film, in train and test inflate the measured
accuracy. Each image has a look: itself at 24 x 24 gray pixels. A search compares the center of one
look with several windows of another by their low frequencies. A registration of each candidate
(Lucas and Kanade, An Iterative Image Registration Technique, 1981) separates copies from other
faces, because all face crops are somewhat similar.
"""

from __future__ import annotations

import functools
import itertools

import cv2
import numpy as np

from tfds_builders import cluster_index

LOOK_SIDE = 24
LOOK_BYTES = LOOK_SIDE**2
SIMILARITY = 0.97
"""Smallest similarity of near-duplicates.

Among 3,360 rendered faces of 480 people, the most similar pair of different people has 0.967. Of
copies that were mirrored, recompressed, brightened by 60, rotated by 5 degrees, cropped, bordered
or shifted by 5 to 10 %, at least 95 % of each kind have more (results/data.md).
"""
MAX_NEAREST = 16
"""Candidates that are registered per image, because N copies of one image have N * N / 2 pairs."""

_POINTS = 16  # sampled each way
_WINDOW = 0.8  # share of the side that is compared: the rest may be missing in the copy
_COARSE, _FINE = (6, 0.5), (10, 1.5)  # frequencies each way, and the exponent of their weight
_CANDIDATE = 0.945  # smallest coarse similarity of a registered pair
_HOPELESS = 0.8  # a smaller fine similarity after two steps is not registered further
_STEPS = 4
_CHUNK = 8_192  # images compared at a time, at least: 160 MB of windows
_CHUNKS = 32  # at most: each gathers the vectors of most lists again
_REGISTERED = 1_024  # pairs registered at a time
_PRODUCTS = 2**23  # and pairs of their windows, which limits the memory


def look(image: np.ndarray) -> bytes:
    """Returns the look of an image: 24 x 24 gray pixels, row by row.

    Args:
      image: uint8[H, W, 3], RGB.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, (LOOK_SIDE, LOOK_SIDE), interpolation=cv2.INTER_AREA).tobytes()


def stack(looks: list[bytes]) -> np.ndarray:
    """Stacks looks as the searches expect them, uint8[N, LOOK_BYTES]."""
    return np.frombuffer(b"".join(looks), np.uint8).reshape(-1, LOOK_BYTES)


def pairs(looks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the near-duplicate pairs of a set.

    Args:
      looks: uint8[N, LOOK_BYTES].

    Returns:
      int64[P, 2] row numbers: the smaller one first, sorted, each pair once; and their
      similarities, float32[P].
    """
    found, similarities = _search(looks, looks, is_same=True)
    return _unique(np.sort(found, axis=1), similarities)


def matches(looks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Finds the near-duplicates of N images among M others.

    Args:
      looks: uint8[N, LOOK_BYTES].
      others: uint8[M, LOOK_BYTES].

    Returns:
      int64[P, 2]: row of `looks`, row of `others`; sorted.
    """
    forward, scores = _search(looks, others)
    backward, more = _search(others, looks)
    found = np.concatenate([forward, backward[:, ::-1]])
    return _unique(found, np.concatenate([scores, more]))[0]


def _unique(found: np.ndarray, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts pairs, and keeps the most similar of equal ones."""
    order = np.lexsort([-similarities, found[:, 1], found[:, 0]])
    found, similarities = found[order], similarities[order]
    is_new = np.append(True, (np.diff(found, axis=0) != 0).any(axis=1))[: len(found)]
    return found[is_new], similarities[is_new]


def _windows() -> np.ndarray:
    """The compared windows: float32[V, 6], affine maps from the window to the look.

    Half of the shifts and rotations suffice, because each pair is compared both ways.
    """
    near, far = (-0.04, 0.0, 0.04), (-0.08, -0.04, 0.0, 0.04, 0.08)
    plain = [(1.0, x, y, 0) for x, y in itertools.product(far, far)]
    plain += [(zoom, x, y, 0) for zoom in (0.92, 0.85) for x, y in itertools.product(near, near)]
    plain += [(0.8, 0.0, 0.0, 0), (1.0, 0.0, 0.0, 5), (0.9, 0.0, 0.0, 5), (0.9, 0.0, 0.0, -5)]
    maps = []
    for (zoom, x, y, degrees), side in itertools.product(plain, (1, -1)):
        if zoom == 1 and (y < 0 or (y == 0 and x < 0 and side == 1)):
            continue
        cos, sin = zoom * np.cos(np.deg2rad(degrees)), zoom * np.sin(np.deg2rad(degrees))
        maps.append((cos * side, -sin, x, sin * side, cos, y))
    return np.array(maps, np.float32)


def _weights(frequencies: int, exponent: float) -> np.ndarray:
    """The weighted discrete cosine transform without its mean: float32[F, POINTS * POINTS]."""
    index = np.arange(frequencies)
    waves = np.cos(np.pi * np.outer(index, np.arange(_POINTS) + 0.5) / _POINTS)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    weights = np.maximum(np.hypot(index[:, None], index[None]), 1) ** exponent
    planes = np.einsum("vu,vy,ux->vuyx", weights, waves, waves)
    return planes.reshape(frequencies**2, -1)[1:].astype(np.float32)


_OFFSETS = (np.arange(_POINTS) + 0.5) / _POINTS * _WINDOW - _WINDOW / 2
_X, _Y = (part.ravel().astype(np.float32) for part in np.meshgrid(_OFFSETS, _OFFSETS))
_NEIGHBORS = (0, 1, LOOK_SIDE, LOOK_SIDE + 1)
_CENTER = np.array([1, 0, 0, 0, 1, 0], np.float32)
_WINDOWS = _windows()
_COARSE_WEIGHTS, _FINE_WEIGHTS = _weights(*_COARSE), _weights(*_FINE)


def _corners(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the points of maps [N, 6] are in a look.

    Returns:
      int32[N, P] pixel above and left of each point; its distance to the right and down from it,
      float32[N, P] pixels each.
    """
    across = maps[:, 0:1] * _X + maps[:, 1:2] * _Y + maps[:, 2:3]
    down = maps[:, 3:4] * _X + maps[:, 4:5] * _Y + maps[:, 5:6]
    across = np.clip((across + 0.5) * LOOK_SIDE - 0.5, 0, LOOK_SIDE - 1.001)
    down = np.clip((down + 0.5) * LOOK_SIDE - 0.5, 0, LOOK_SIDE - 1.001)
    left, top = across.astype(np.int32), down.astype(np.int32)
    return top * LOOK_SIDE + left, across - left, down - top


def _sample(looks: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples looks float32[N, LOOK_BYTES] at the points of maps [N, 6].

    Returns:
      The values and their derivatives along x and y, float32[N, P] each.
    """
    first, x, y = _corners(maps)
    first = first + LOOK_BYTES * np.arange(len(looks), dtype=np.int32)[:, None]
    pixels = looks.ravel()
    a, b, c, d = (pixels[first + step] for step in _NEIGHBORS)
    upper, lower = a + (b - a) * x, c + (d - c) * x
    along_x = (b - a + (d - c - b + a) * y) * LOOK_SIDE
    return upper + (lower - upper) * y, along_x, (lower - upper) * LOOK_SIDE


@functools.cache
def _operators() -> np.ndarray:
    """Coarse features of all windows, then of the center, as a linear map of a look.

    float32[LOOK_BYTES, (V + 1) * F].
    """
    first, x, y = _corners(np.concatenate([_WINDOWS, _CENTER[None]]))
    shares = ((1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y)
    window, point = np.indices(first.shape)
    sampling = np.zeros((*first.shape, LOOK_BYTES), np.float32)
    for step, share in zip(_NEIGHBORS, shares, strict=True):
        sampling[window, point, first + step] = share
    features = _COARSE_WEIGHTS @ sampling
    return np.ascontiguousarray(features.reshape(-1, LOOK_BYTES).T)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-3)


def _search(
    looks: np.ndarray, others: np.ndarray, *, is_same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Compares windows of N looks with the centers of M others.

    Returns:
      int64[P, 2] row of `looks`, row of `others`; and their similarities, float32[P].
    """
    found = [np.zeros((0, 2), np.int64)]
    similarities = [np.zeros(0, np.float32)]
    if len(looks) and len(others):
        windowed = _operators()[:, : -len(_COARSE_WEIGHTS)]
        centers = _centers(others)
        index = cluster_index.Index(centers)
        # Similar images together: a chunk of them needs few of the lists.
        order = np.argsort(index.nearest(centers if is_same else _centers(looks)), kind="stable")
        size = max(_CHUNK, -(-len(order) // _CHUNKS))
        for rows in np.split(order, range(size, len(order), size)):
            part = looks[rows].astype(np.float32)
            windows = _unit((part @ windowed).reshape(-1, len(_COARSE_WEIGHTS)))
            row, other, window = _candidates(windows, centers, index)
            if is_same:
                keep = rows[row] != other
                row, other, window = row[keep], other[keep], window[keep]
            scores = _register(part, others, row, other, window)
            near = scores >= SIMILARITY
            found.append(np.stack([rows[row[near]], other[near]], axis=1))
            similarities.append(scores[near])
    return np.concatenate(found), np.concatenate(similarities)


def _centers(looks: np.ndarray) -> np.ndarray:
    """Coarse features of the centers of looks: float32[N, F]."""
    central = _operators()[:, -len(_COARSE_WEIGHTS) :]
    parts = np.split(looks, range(_CHUNK, len(looks), _CHUNK))
    return np.concatenate([_unit(part.astype(np.float32) @ central) for part in parts])


def _candidates(
    windows: np.ndarray, centers: np.ndarray, index: cluster_index.Index
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns row of the chunk, row of `centers` and window number of similar pairs.

    Each pair once, with its most similar window; the `MAX_NEAREST` most similar pairs of a row.
    """
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for queries, rows in index.groups(windows):
        listed, step = centers[rows].T, max(1, _PRODUCTS // max(1, len(rows)))
        for block in np.split(queries, range(step, len(queries), step)):
            scores = windows[block] @ listed
            near = np.flatnonzero(_nearest(scores))  # faster than in two dimensions
            if len(near):
                query, member = np.divmod(near, len(rows))
                parts.append((block[query], rows[member], scores[query, member]))
    query, other, score = (np.concatenate(part) for part in zip(*parts, strict=True))
    row, window = np.divmod(query, len(_WINDOWS))
    order = np.lexsort([-score, other, row])
    row, other, window, score = row[order], other[order], window[order], score[order]
    is_new = np.append(True, (np.diff(row) != 0) | (np.diff(other) != 0))[: len(row)]
    row, other, window, score = row[is_new], other[is_new], window[is_new], score[is_new]
    order = np.lexsort([-score, row])
    row, other, window = row[order], other[order], window[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    keep = rank < MAX_NEAREST
    return row[keep], other[keep], window[keep]


def _nearest(scores: np.ndarray) -> np.ndarray:
    """Marks candidates, at most `MAX_NEAREST` of each row: bool, like `scores`."""
    is_near: np.ndarray = scores >= _CANDIDATE
    if np.count_nonzero(is_near) <= MAX_NEAREST:  # nearly always, and faster than by row
        return is_near
    counts = np.bincount(np.flatnonzero(is_near) // scores.shape[1])
    crowded = np.flatnonzero(counts > MAX_NEAREST)
    if len(crowded):
        best = np.argpartition(-scores[crowded], MAX_NEAREST, 1)[:, :MAX_NEAREST]
        is_near[crowded] = False
        is_near[crowded[:, None], best] = True
    return is_near


def _register(
    looks: np.ndarray, others: np.ndarray, row: np.ndarray, other: np.ndarray, window: np.ndarray
) -> np.ndarray:
    """Similarity float32[P] of pairs after registration; 0 for hopeless ones."""
    scores = np.zeros(len(row), np.float32)
    for part in np.split(np.arange(len(row)), range(_REGISTERED, len(row), _REGISTERED)):
        first, second = looks[row[part]], others[other[part]].astype(np.float32)
        target = _sample(second, np.broadcast_to(_CENTER, (len(part), 6)))[0]
        wanted, maps = _unit(target @ _FINE_WEIGHTS.T), _WINDOWS[window[part]]
        for step in range(_STEPS):
            maps = _improve(first, target, maps)
            if step == 1:
                sampled = _sample(first, maps)[0] @ _FINE_WEIGHTS.T
                keep = (_unit(sampled) * wanted).sum(1) >= _HOPELESS
                part, first, target = part[keep], first[keep], target[keep]
                wanted, maps = wanted[keep], maps[keep]
        sampled = _sample(first, maps)[0] @ _FINE_WEIGHTS.T
        scores[part] = (_unit(sampled) * wanted).sum(1)
    return scores


def _improve(looks: np.ndarray, target: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step of affine maps, gain and offset towards `target`."""
    values, x, y = _sample(looks, maps)
    ones = np.ones_like(values)
    slopes = np.stack([x * _X, x * _Y, x, y * _X, y * _Y, y, values, ones], axis=1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    damping = 1e-3 / 8 * np.trace(normal, axis1=1, axis2=2)[:, None] * ([1] * 6 + [0] * 2)
    normal += np.eye(8) * (damping + 1e-3)[:, None, :]
    step = np.linalg.solve(normal, slopes @ target[..., None])[..., 0]
    gain = np.where(np.abs(step[:, 6:7]) < 0.2, 0.2, step[:, 6:7])
    return (maps + np.clip(step[:, :6] / gain, -0.08, 0.08)).astype(np.float32)
