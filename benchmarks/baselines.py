"""Accuracy of simple baselines on the synthetic faces: the floor that a network must beat.

Three logistic regressions, trained on the demo's training people and tested on its test people: on
pixels, on HOG features, and on the image border alone, which has no face and must be at chance.
Reports balanced accuracy; the regularization is chosen on validation people. Needs scikit-learn.

    python -m benchmarks.baselines                      # the builder's demo split
    python -m benchmarks.baselines --face_margin 0.05   # face crops, as for the demo's network
    python -m benchmarks.baselines train.npz val.npz test.npz   # x uint8[N, S, S, 3], y int[N]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from fer_jax import labels
from fer_jax.data.preprocess import Preprocessing

SIDE = 64  # pixels, the size of the HOG window
BORDER = 4  # pixels, outside of any face
INVERSE_REGULARIZATION = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # scikit-learn's C
SPLITS = ("train", "validation", "test")

Split = tuple[np.ndarray, np.ndarray]  # images uint8[N, S, S, 3] or features, labels int[N]


class Classifier(Protocol):
    """A fitted model of scikit-learn."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns int[N] of float[N, F]."""
        ...


def _gray(images: np.ndarray) -> np.ndarray:
    """Returns uint8[N, 64, 64]."""
    return np.stack(
        [
            cv2.resize(
                cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA
            )
            for image in images
        ]
    )


def pixels(images: np.ndarray) -> np.ndarray:
    """Returns float32[N, 1024]: gray, 32 x 32."""
    small = [cv2.resize(g, (32, 32), interpolation=cv2.INTER_AREA) for g in _gray(images)]
    return np.stack(small).reshape(len(images), -1) / np.float32(255)


def hog(images: np.ndarray) -> np.ndarray:
    """Returns float32[N, 1764]: 8-pixel cells, 9 directions, blocks of 2 x 2 cells."""
    descriptor = cv2.HOGDescriptor((SIDE, SIDE), (16, 16), (8, 8), (8, 8), 9)
    return np.stack([np.ravel(descriptor.compute(gray)) for gray in _gray(images)])


def border(images: np.ndarray) -> np.ndarray:
    """Returns float32[N, K]: the colors of the outer ring of the image."""
    ring = np.ones(images.shape[1:3], bool)
    ring[BORDER:-BORDER, BORDER:-BORDER] = False
    return images[:, ring].reshape(len(images), -1) / np.float32(255)


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixels": pixels, "hog": hog, "border": border,
}  # fmt: skip


def balanced_accuracy(features: Callable[[np.ndarray], np.ndarray], data: list[Split]) -> float:
    """Returns test accuracy with the regularization that is best on validation people."""
    from sklearn import metrics

    training, validation, (test_x, test_y) = ((features(x), y) for x, y in data)
    model = fit(training, validation)
    return float(metrics.balanced_accuracy_score(test_y, model.predict(test_x)))


def fit(training: Split, validation: Split) -> Classifier:
    """Fits a logistic regression; its regularization has the best validation accuracy.

    Args:
      training: features float32[N, F] and labels int[N].
      validation: likewise.
    """
    from sklearn import linear_model, metrics, pipeline, preprocessing

    (train_x, train_y), (val_x, val_y) = training, validation
    best_score, best_model = -1.0, None
    for c in INVERSE_REGULARIZATION:
        model = pipeline.make_pipeline(
            preprocessing.StandardScaler(),
            linear_model.LogisticRegression(C=c, max_iter=300),
        ).fit(train_x, train_y)
        score = metrics.balanced_accuracy_score(val_y, model.predict(val_x))
        if score > best_score:
            best_score, best_model = score, model
    assert best_model is not None
    return best_model


def _from_files(paths: list[str]) -> list[Split]:
    splits = []
    for path in paths:
        with np.load(path) as stored:
            splits.append((stored["x"], stored["y"]))
    return splits


def _from_builder(face_margin: float | None) -> list[Split]:
    """Reads the shipped images, cropped to the face if a margin is given."""
    from tfds_builders.synthetic_faces import fixture

    splits = []
    for split in SPLITS:
        records = list(fixture.read(split))
        encoded = [np.frombuffer(record.jpeg, np.uint8) for record in records]
        images = [np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)) for jpeg in encoded]
        if face_margin is not None:
            boxes = [record.truth["face_box"] for record in records]
            framing = Preprocessing(SIDE, "unit", face_margin=face_margin)
            images = [framing.framed(*pair) for pair in zip(images, boxes, strict=True)]
        emotions = [labels.SEVEN.index(record.truth["expression"]) for record in records]
        splits.append((np.stack(images), np.array(emotions)))
    return splits


def main() -> None:
    """Prints one line per baseline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="npz files of train, validation and test")
    parser.add_argument(
        "--face_margin",
        type=float,
        help="crop to the face box with this margin, as a share of its longer side",
    )
    options = parser.parse_args()
    files = options.files
    if len(files) not in (0, 3):
        sys.exit(f"expected no files, or three (train, validation, test); found {len(files)}")
    data = _from_files(files) if files else _from_builder(options.face_margin)
    sizes = ", ".join(f"{name} {len(y):,}" for name, (_, y) in zip(SPLITS, data, strict=True))
    print(f"{sizes} images; chance {1 / len(np.unique(data[0][1])):.3f}")
    for name, features in FEATURES.items():
        start = time.monotonic()
        score = balanced_accuracy(features, data)
        print(f"{name:<8} {score:.3f}  ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
