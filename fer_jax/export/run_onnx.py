"""Runs an exported ONNX file on pictures, without fer_jax.

    python run_exported.py demo.onnx photo.jpg ...

Needs numpy, opencv-python-headless (version 4) and onnxruntime. Finds the largest face,
cuts it as the network's training data was cut, and prints a line of probabilities.
"""

from __future__ import annotations

import json
import os
import sys

import cv2
import numpy as np


def find_face(picture: np.ndarray, faces: dict) -> tuple[int, int, int, int]:
    """x, y, width, height of the largest face in uint8[H, W, 3] RGB; of all where none is found."""
    height, width = picture.shape[:2]
    scale = min(1.0, 320 / max(height, width))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    data = os.path.join(os.path.dirname(cv2.__file__), "data")
    cascade = cv2.CascadeClassifier(os.path.join(data, "haarcascade_frontalface_default.xml"))
    least = max(20, int(0.1 * min(grey.shape)))
    found = cascade.detectMultiScale(cv2.equalizeHist(grey), 1.1, 5, minSize=(least, least))
    if not len(found):
        return 0, 0, width, height
    x, y, wide, high = max(found, key=lambda box: box[2] * box[3]) / scale
    right, bottom = min(round(x + wide), width), min(round(y + high), height)
    x, y = max(round(x), 0), max(round(y), 0)
    wide, high = right - x, bottom - y
    if faces["box_change"] is None:
        return x, y, wide, high
    move_right, move_down, share = faces["box_change"]
    longer = max(wide, high)
    side = round(share * longer)
    left = round(x + wide / 2 + move_right * longer - side / 2)
    top = round(y + high / 2 + move_down * longer - side / 2)
    x, y = max(left, 0), max(top, 0)
    return x, y, min(left + side, width) - x, min(top + side, height) - y


def cut_face(picture: np.ndarray, box: tuple[int, int, int, int], metadata: dict) -> np.ndarray:
    """The square around a box, as the network takes it: uint8[S, S, 3] RGB."""
    x, y, width, height = box
    side = max(1, round(max(width, height) * (1 + 2 * metadata["faces"]["margin"])))
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
    padded = cv2.copyMakeBorder(picture, side, side, side, side, cv2.BORDER_REPLICATE)
    square = padded[top + side : top + 2 * side, left + side : left + 2 * side]
    stored, size = metadata["faces"]["longest_side"], metadata["input"]["size"]
    if stored and side > stored:  # as the training data is stored
        square = cv2.resize(square, (stored, stored), interpolation=cv2.INTER_AREA)
    method = cv2.INTER_AREA if len(square) > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=method)


def main(model: str, *pictures: str) -> None:
    """Prints what the faces of `pictures` express."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["fer_jax"])
    for path in pictures:
        picture = cv2.imread(path)
        if picture is None:
            print(f"{path}: not a picture", file=sys.stderr)
            continue
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        box = find_face(picture, metadata["faces"])
        face = cut_face(picture, box, metadata)
        (probabilities,) = session.run(None, {"faces": face[None]})[0]
        said = dict(zip(metadata["labels"], map(float, probabilities), strict=True))
        label = max(said, key=said.__getitem__)
        print(json.dumps({"picture": path, "box": box, "label": label, "probabilities": said}))


if __name__ == "__main__":
    main(*sys.argv[1:])
