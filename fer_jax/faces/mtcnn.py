"""Detects faces and five landmarks with MTCNN (Zhang et al., 2016; arXiv 1604.02878).

Three small networks in a cascade: PNet proposes boxes on an image pyramid, RNet and ONet refine
them. OpenCV's dnn module runs them: it prepares nothing for a new image size, and takes a fifth of
the CPU time of NumPy's matrix products. Imports NumPy and OpenCV only, because exported files come
with a copy of this module and its weights. Those are facenet-pytorch's, Copyright (c) 2019 Timothy
Esler, MIT License (NOTICE of fer_jax); `tools/convert_mtcnn.py` converts them.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np

WEIGHTS = Path(__file__).with_suffix(".npz")
"""The networks as ONNX files, each an array of bytes."""

MAX_SHARED = 0.4
"""Two detections are one face if they share more than this part of the smaller box."""

# The authors' settings, which facenet-pytorch has too.
_THRESHOLDS = {"pnet": 0.6, "rnet": 0.7, "onet": 0.7}
_SCALE_STEP = 0.709  # about the root of one half: each level has half the pixels
_SAME_FACE = 0.7  # intersection over union of candidates, between two networks
_PNET_SIDE, _PNET_STRIDE = 12, 2
_SIDES = {"rnet": 24, "onet": 48}
_WIDTHS = {"rnet": 6, "onet": 16}  # outputs: two logits, four box changes, ten coordinates

_WORK_SIDE = 96  # pixels that a photo's smallest face has at most: twice what ONet sees
_MIN_SIDE = 20  # pixels; of smaller faces too little is left to classify
_MAX_LEVEL_SIDE = 1500  # pixels of the largest pyramid level, which bounds memory
_BATCH = 128  # candidates per pass through RNet or ONet, which bounds memory


class Mtcnn:
    """The cascade; not safe for use from several threads."""

    def __init__(self, min_share: float):
        """Loads the networks.

        Args:
          min_share: smallest face side, as a share of the image's shorter side; faces below 20
            pixels, or 1/125 of the longer side, are never found.
        """
        self._min_share = min_share
        self._networks = {name: cv2.dnn.readNetFromONNX(graph) for name, graph in _graphs().items()}

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the faces of an image.

        Args:
          image: uint8[H, W, 3], RGB.

        Returns:
          Boxes float64[N, 4] as x, y, width, height, the largest first, which may extend past the
          image; and landmarks float64[N, 5, 2] as pixel indices x and y: left and right eye, nose
          tip, left and right corner of the mouth, where left is the left of the image.
        """
        height, width = image.shape[:2]
        required = self._min_share * min(height, width)
        smallest = max(_MIN_SIDE, required, max(height, width) * _PNET_SIDE / _MAX_LEVEL_SIDE)
        scale = min(1.0, _WORK_SIDE / smallest)
        small = image
        if scale < 1.0:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        factors = np.array([width / small.shape[1], height / small.shape[0]])
        boxes, points = self._find(small, smallest * scale)
        corners, points = boxes.reshape(-1, 2, 2) * factors, (points + 0.5) * factors - 0.5
        sides = corners[:, 1] - corners[:, 0]
        order = np.argsort(-sides.prod(axis=1), kind="stable")
        order = order[sides[order].max(axis=1, initial=0) >= required]
        return np.concatenate([corners[:, 0], sides], axis=1)[order], points[order]

    def _find(self, image: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns boxes float64[N, 4] (left, top, right, bottom) and landmarks float64[N, 5, 2]."""
        sums = cv2.integral(image, sdepth=cv2.CV_32S)
        boxes = self._propose(sums, smallest)
        boxes, scores, outputs = self._refine("rnet", sums, _square(boxes))
        kept = suppress(boxes, scores, _SAME_FACE)
        boxes = _moved(boxes[kept], outputs[kept])
        boxes, scores, outputs = self._refine("onet", sums, _square(boxes))
        shares = outputs[:, 4:].reshape(-1, 2, 5).transpose(0, 2, 1)
        points = boxes[:, None, :2] + shares * (boxes[:, 2:] - boxes[:, :2])[:, None]
        boxes = _moved(boxes, outputs)
        kept = suppress(boxes, scores, MAX_SHARED, of_smaller=True)
        return boxes[kept], points[kept]

    def _propose(self, sums: np.ndarray, smallest: float) -> np.ndarray:
        """Runs PNet on an image pyramid: float64[N, 4] boxes."""
        height, width = sums.shape[0] - 1, sums.shape[1] - 1
        boxes, scores, changes = [np.zeros((0, 4))], [np.zeros(0)], [np.zeros((0, 4))]
        scale = _PNET_SIDE / smallest
        while min(height, width) * scale >= _PNET_SIDE:
            size = int(height * scale + 1), int(width * scale + 1)
            level = _resized(sums, np.array([[0, 0, width, height]]), size)
            (outputs,) = self._apply("pnet", level)
            score = _probability(outputs)
            rows, columns = np.nonzero(score >= _THRESHOLDS["pnet"])
            # The networks were trained on boxes that are one pixel of their level further right
            # and down than the window, and one smaller.
            first = np.stack([columns, rows], axis=1) * _PNET_STRIDE
            windows = np.concatenate([first + 1, first + _PNET_SIDE], axis=1) // scale
            kept = suppress(windows, score[rows, columns], 0.5)
            boxes.append(windows[kept])
            scores.append(score[rows, columns][kept])
            changes.append(outputs[rows, columns, 2:][kept])
            scale *= _SCALE_STEP
        every = np.concatenate(boxes)
        kept = suppress(every, np.concatenate(scores), _SAME_FACE)
        return _moved(every[kept], np.concatenate(changes)[kept])

    def _refine(
        self, network: str, sums: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores square boxes with RNet or ONet.

        Returns:
          The accepted boxes, their scores, and the network's outputs after the two logits: changes
          of the box and, from ONet, landmarks.
        """
        side, width = _SIDES[network], _WIDTHS[network]
        outputs = [np.zeros((0, width), np.float32)]
        for start in range(0, len(boxes), _BATCH):
            corners = np.trunc(boxes[start : start + _BATCH]).astype(int) - (1, 1, 0, 0)
            crops = _resized(sums, corners, (side, side))
            outputs.append(self._apply(network, crops).reshape(-1, width))
        every = np.concatenate(outputs)
        scores = _probability(every)
        accepted = scores > _THRESHOLDS[network]
        return boxes[accepted], scores[accepted], every[accepted, 2:]

    def _apply(self, network: str, images: np.ndarray) -> np.ndarray:
        """Runs a network on float32[N, H, W, 3] in 0 to 255: float32[N, H', W', outputs]."""
        scaled = ((images - np.float32(127.5)) * np.float32(1 / 128)).transpose(0, 3, 1, 2)
        self._networks[network].setInput(np.ascontiguousarray(scaled))
        outputs: np.ndarray = self._networks[network].forward()
        return outputs.transpose(0, 2, 3, 1)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, limit: float, *, of_smaller: bool = False
) -> np.ndarray:
    """Non-maximum suppression: drops boxes that overlap a box of a higher score.

    Args:
      boxes: float[N, 4], left, top, right, bottom.
      scores: float[N]; of equal ones the first wins.
      limit: largest overlap allowed: intersection over union, or over the smaller box.
      of_smaller: whether the overlap is that over the smaller box.

    Returns:
      int[M] indices of the boxes that are left, the highest score first.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        shared = np.minimum(boxes[order, 2:], boxes[best, 2:])
        shared = np.maximum(0, shared - np.maximum(boxes[order, :2], boxes[best, :2])).prod(axis=1)
        if of_smaller:
            whole = np.minimum(areas[order], areas[best])
        else:
            whole = areas[order] + areas[best] - shared
        order = order[shared <= limit * whole]
    return np.array(kept, np.int64)


@functools.cache
def _graphs() -> dict[str, np.ndarray]:
    with np.load(WEIGHTS) as stored:
        return {name: stored[name] for name in stored.files}


def _probability(outputs: np.ndarray) -> np.ndarray:
    """Softmax over the logits of "no face" and "face", which come first."""
    return 1 / (1 + np.exp(outputs[..., 0] - outputs[..., 1]))


def _moved(boxes: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Moves each side of the boxes by a share of the width or height."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + changes[:, :4] * np.tile(size, 2)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Widens boxes to squares with the same centers."""
    centers, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 2
    return np.concatenate([centers - half[:, None], centers + half[:, None]], axis=1)


def _resized(sums: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crops boxes and resizes them by averaging whole pixels, as PyTorch's mode "area" does.

    Args:
      sums: int32[H + 1, W + 1, 3], the integral image; it may overflow, because no window does.
      boxes: int[N, 4], left, top, right, bottom in pixels; black outside the image.
      size: height and width of the result.

    Returns:
      float32[N, *size, 3], in 0 to 255.
    """
    edges = []
    for axis, count in enumerate(size):
        start, length = boxes[:, 1 - axis, None], np.ptp(boxes[:, [1 - axis, 3 - axis]], axis=1)
        length = np.maximum(1, length)[:, None]
        first, last = (
            np.arange(count) * length // count,
            -(-np.arange(1, count + 1) * length // count),
        )
        inside = (np.clip(start + edge, 0, sums.shape[axis] - 1) for edge in (first, last))
        edges.append((*inside, last - first))
    (top, bottom, rows), (left, right, columns) = edges
    totals = sums[bottom[:, :, None], right[:, None]] - sums[bottom[:, :, None], left[:, None]]
    totals += sums[top[:, :, None], left[:, None]] - sums[top[:, :, None], right[:, None]]
    area = rows[:, :, None] * columns[:, None]
    return totals.astype(np.float32) / area[..., None].astype(np.float32)
