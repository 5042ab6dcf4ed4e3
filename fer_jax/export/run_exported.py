"""Runs an exported ONNX or StableHLO file on images, without fer_jax.

    python run_exported.py demo.onnx photo.jpg ...

Needs numpy and opencv-python-headless 4.x, and the files mtcnn.py, mtcnn.npz and align.py beside
it; ONNX files also need onnxruntime, StableHLO files jax and flatbuffers. Detects the largest face
of each image, crops or aligns it like the training data, and prints one JSON line with its
probabilities.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import zipfile
from collections.abc import Callable

import cv2
import numpy as np


def find_face(
    image: np.ndarray, faces: dict
) -> tuple[tuple[int, int, int, int], np.ndarray | None]:
    """Finds the largest face.

    Args:
      image: uint8[H, W, 3] RGB.
      faces: the entry `faces` of the file's metadata.

    Returns:
      x, y, width and height of the face, or of the whole image if there is none; and the five
      landmarks, float[5, 2], or None.
    """
    height, width = image.shape[:2]
    box, landmarks = _DETECTORS[faces["detector"]](image)
    if box is None:
        return (0, 0, width, height), None
    right, bottom = min(round(box[0] + box[2]), width), min(round(box[1] + box[3]), height)
    x, y = min(max(round(box[0]), 0), width - 1), min(max(round(box[1]), 0), height - 1)
    box_width, box_height = max(1, right - x), max(1, bottom - y)
    if faces["box_change"] is None:
        return (x, y, box_width, box_height), landmarks
    move_right, move_down, share = faces["box_change"]
    longer = max(box_width, box_height)
    side = max(1, round(share * longer))
    left = round(x + box_width / 2 + move_right * longer - side / 2)
    top = round(y + box_height / 2 + move_down * longer - side / 2)
    x, y = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return (x, y, min(left + side, width) - x, min(top + side, height) - y), landmarks


def _mtcnn(image: np.ndarray) -> tuple[list[float] | None, np.ndarray | None]:
    boxes, landmarks = importlib.import_module("mtcnn").Mtcnn(0.1).find(image)
    return (boxes[0].tolist(), landmarks[0]) if len(boxes) else (None, None)


def _haar(image: np.ndarray) -> tuple[list[float] | None, None]:
    height, width = image.shape[:2]
    scale = min(1.0, max(320 / max(height, width), 20 / max(1.0, 0.1 * min(height, width))))
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if scale < 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    data = os.path.join(os.path.dirname(cv2.__file__), "data")
    cascade = cv2.CascadeClassifier(os.path.join(data, "haarcascade_frontalface_default.xml"))
    min_side = max(20, int(0.1 * min(gray.shape)))
    boxes = cascade.detectMultiScale(cv2.equalizeHist(gray), 1.1, 5, minSize=(min_side, min_side))
    if not len(boxes):
        return None, None
    return (max(boxes, key=lambda box: box[2] * box[3]) / scale).tolist(), None


_DETECTORS = {"mtcnn": _mtcnn, "haar_frontal": _haar}


def crop_face(
    image: np.ndarray,
    box: tuple[int, int, int, int],
    landmarks: np.ndarray | None,
    metadata: dict,
) -> np.ndarray:
    """Crops the square around a box, or aligns the face, to the network's input.

    Returns:
      uint8[S, S, 3] RGB.
    """
    faces, size = metadata["faces"], metadata["input"]["size"]
    stored = faces["longest_side"]
    if faces["align"] and landmarks is not None:
        square = importlib.import_module("align").align(image, landmarks, stored)
    else:
        x, y, width, height = box
        side = max(1, round(max(width, height) * (1 + 2 * faces["margin"])))
        left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
        padded = cv2.copyMakeBorder(image, side, side, side, side, cv2.BORDER_REPLICATE)
        square = padded[top + side : top + 2 * side, left + side : left + 2 * side]
    if stored and len(square) > stored:  # the size at which the training data is stored
        square = cv2.resize(square, (stored, stored), interpolation=cv2.INTER_AREA)
    if len(square) == size:
        return square
    method = cv2.INTER_AREA if len(square) > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=method)


def load(path: str) -> tuple[Callable[[np.ndarray], np.ndarray], dict]:
    """Returns a function from faces uint8[B, S, S, 3] to float32[B, C], and the metadata."""
    with open(path, "rb") as file:
        is_stablehlo = file.read(2) == b"PK"  # a zip archive
    if is_stablehlo:
        import jax.export

        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            program = jax.export.deserialize(bytearray(archive.read("program.stablehlo")))
        return lambda faces: np.asarray(program.call(faces)), metadata
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["fer_jax"])
    return lambda faces: session.run(None, {"faces": faces})[0], metadata


def main(model: str, *images: str) -> None:
    """Prints the probabilities of the largest face in each image."""
    classify, metadata = load(model)
    for path in images:
        image = cv2.imread(path)
        if image is None:
            print(f"{path}: not an image", file=sys.stderr)
            continue
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        box, landmarks = find_face(image, metadata["faces"])
        face = crop_face(image, box, landmarks, metadata)
        (row,) = classify(face[None])
        probabilities = dict(zip(metadata["labels"], map(float, row), strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        line = {"picture": path, "box": box, "label": label, "probabilities": probabilities}
        print(json.dumps(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
