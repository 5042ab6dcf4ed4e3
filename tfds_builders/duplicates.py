"""Finds near-duplicate images by perceptual hashes.

Two copies of a photograph, or adjacent frames of a film, in train and test inflate the measured
accuracy. A coarse hash of 64 bits finds candidates in buckets, so half a million images take less
than a minute. A fine hash of 256 bits separates copies from other faces, because all face crops
are somewhat similar.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

COARSE_BITS = 4
"""Largest difference of the coarse hashes of near-duplicates, of 64 bits."""
FINE_BITS = 32
"""Largest difference of the fine hashes of near-duplicates, of 256 bits.

Among 3,360 rendered faces of 480 people, no two of different people are that close; of 300 that
were recompressed or resized, nearly all are that close to the original.
"""

MAX_PAIRS = 1_000_000  # a limit, because N copies of one image have N * N / 2 pairs
LOOK_BYTES = 40

_SIDE = 32
_COARSE, _FINE = 8, 16  # frequencies each way
_BANDS = COARSE_BITS + 1  # two hashes within COARSE_BITS agree in at least one band
_BLOCK = 2_048  # rows compared at a time


def look(image: np.ndarray) -> bytes:
    """Computes the perceptual hashes of an image: 8 coarse bytes, then 32 fine ones.

    Each bit is whether one of the lowest 8 x 8 (coarse) or 16 x 16 (fine) frequencies of the
    image, at 32 x 32 gray pixels, is above the median (pHash: Zauner, Implementation and
    Benchmarking of Perceptual Image Hash Functions, 2010). Size, compression and brightness
    hardly change it.

    Args:
      image: uint8[H, W, 3], RGB.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    frequencies = cv2.dct(small.astype(np.float32))
    return b"".join(_signs(frequencies[:side, :side].ravel()) for side in (_COARSE, _FINE))


def distance(first: bytes, second: bytes) -> int:
    """The number of different bits of the fine hashes, 0 to 256."""
    fine = [int.from_bytes(look[_COARSE:], "big") for look in (first, second)]
    return (fine[0] ^ fine[1]).bit_count()


def pairs(looks: list[bytes]) -> np.ndarray:
    """Finds all near-duplicate pairs.

    Args:
      looks: hashes of each image, as `look` returns them.

    Returns:
      int64[P, 2] indices into `looks`: the smaller one first, sorted, each pair once; at most
      `MAX_PAIRS`.
    """
    words = np.frombuffer(b"".join(looks), np.uint64).reshape(-1, LOOK_BYTES // 8)
    blocks: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
    for band in range(_BANDS):
        left = MAX_PAIRS
        for near in _band_pairs(words, band):
            blocks.append(near[:left])
            left -= len(near)
            if left <= 0:
                break
    return np.unique(np.concatenate(blocks), axis=0)[:MAX_PAIRS]


def _signs(frequencies: np.ndarray) -> bytes:
    # The first value is the mean, which would only shift the median.
    return np.packbits(frequencies > np.median(frequencies[1:])).tobytes()


def _band_pairs(words: np.ndarray, band: int) -> Iterator[np.ndarray]:
    """Near-duplicate pairs among images whose coarse hashes agree in one band of bits."""
    first, last = band * 64 // _BANDS, (band + 1) * 64 // _BANDS
    keys = (words[:, 0] >> np.uint64(first)) & np.uint64((1 << (last - first)) - 1)
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(order))
    for start, end in zip(starts, ends, strict=True):
        if end - start > 1:
            yield from _near(order[start:end], words)


def _near(rows: np.ndarray, words: np.ndarray) -> Iterator[np.ndarray]:
    """Near-duplicate pairs among `rows`, compared block by block."""
    for start in range(0, len(rows), _BLOCK):
        first = rows[start : start + _BLOCK]
        for other_start in range(start, len(rows), _BLOCK):
            second = rows[other_start : other_start + _BLOCK]
            coarse = np.bitwise_count(words[first, 0][:, None] ^ words[second, 0][None, :])
            i, j = np.nonzero(coarse <= COARSE_BITS)
            pairs = np.stack([first[i], second[j]], axis=1)
            pairs = pairs[pairs[:, 0] < pairs[:, 1]]  # rows of a bucket ascend
            fine = np.bitwise_count(words[pairs[:, 0], 1:] ^ words[pairs[:, 1], 1:])
            yield pairs[fine.sum(axis=1) <= FINE_BITS]
