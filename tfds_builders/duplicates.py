"""Pictures that look alike, found by hashes of what they look like.

Two copies of one photograph, or two neighbouring frames of a film, in train and in
test make a network look better than it is. A coarse hash of 64 bits finds candidates
in buckets, so that half a million pictures take less than a minute; a finer one of 256
bits tells copies from other faces, which in their crops all look a little alike. It
reads no files.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

COARSE_BITS = 4
"""Coarse hashes of near-duplicates differ in at most so many of their 64 bits."""
FINE_BITS = 32
"""And fine ones in so many of 256. Of 3,360 rendered faces of 480 people no two of different
people are that near, of 300 compressed again or made smaller nearly all are to their first."""

MOST_PAIRS = 1_000_000  # more are not listed: a set of copies of one picture has N * N / 2
LOOK_BYTES = 40

_SIDE = 32
_COARSE, _FINE = 8, 16  # frequencies each way
_BANDS = COARSE_BITS + 1  # two hashes that near are equal in at least one band of their bits
_BLOCK = 2_048  # rows compared at a time


def look(picture: np.ndarray) -> bytes:
    """What a picture looks like, as a coarse hash of 8 bytes and a fine one of 32.

    The lowest 8 x 8, and 16 x 16, frequencies of the picture at 32 x 32 grey pixels, each
    above or below their median (pHash: Zauner, Implementation and Benchmarking of Perceptual
    Image Hash Functions, 2010). Size, compression and brightness hardly change it.

    Args:
      picture: uint8[H, W, 3], RGB.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    frequencies = cv2.dct(small.astype(np.float32))
    return b"".join(_signs(frequencies[:kept, :kept].ravel()) for kept in (_COARSE, _FINE))


def distance(one: bytes, other: bytes) -> int:
    """Different bits of the fine hashes, 0 to 256."""
    fine = (int.from_bytes(look[_COARSE:], "big") for look in (one, other))
    first, second = fine
    return (first ^ second).bit_count()


def pairs(looks: list[bytes]) -> np.ndarray:
    """Rows of pictures that look alike.

    Returns:
      int64[P, 2], the smaller row first, in order, each pair once; at most `MOST_PAIRS`.
    """
    words = np.frombuffer(b"".join(looks), np.uint64).reshape(-1, LOOK_BYTES // 8)
    found: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
    for band in range(_BANDS):
        room = MOST_PAIRS
        for some in _band_pairs(words, band):
            found.append(some[:room])
            room -= len(some)
            if room <= 0:
                break
    return np.unique(np.concatenate(found), axis=0)[:MOST_PAIRS]


def _signs(frequencies: np.ndarray) -> bytes:
    # The first is the mean grey, which is no frequency and would only shift the median.
    return np.packbits(frequencies > np.median(frequencies[1:])).tobytes()


def _band_pairs(words: np.ndarray, band: int) -> Iterator[np.ndarray]:
    """Near pairs among the pictures whose coarse hashes are equal in one band of bits."""
    first, last = band * 64 // _BANDS, (band + 1) * 64 // _BANDS
    keys = (words[:, 0] >> np.uint64(first)) & np.uint64((1 << (last - first)) - 1)
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(order))
    for start, end in zip(starts, ends, strict=True):
        if end - start > 1:
            yield from _near(order[start:end], words)


def _near(rows: np.ndarray, words: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(rows), _BLOCK):
        some = rows[begin : begin + _BLOCK]
        for other in range(begin, len(rows), _BLOCK):
            others = rows[other : other + _BLOCK]
            coarse = np.bitwise_count(words[some, 0][:, None] ^ words[others, 0][None, :])
            one, two = np.nonzero(coarse <= COARSE_BITS)
            both = np.stack([some[one], others[two]], axis=1)
            both = both[both[:, 0] < both[:, 1]]  # rows of a bucket ascend
            fine = np.bitwise_count(words[both[:, 0], 1:] ^ words[both[:, 1], 1:])
            yield both[fine.sum(axis=1) <= FINE_BITS]
