"""Accuracy of every way to a probability on rendered photos, with faces found by each way itself.

    python -m benchmarks.framing runs/demo [--photos 700]

The photos are the run's test images, as PNG files. Beside the report, whose boxes are the true
ones, stand prediction, the Python interface, the page and exported files; and how far found boxes
are from the true ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import fer_jax
from fer_jax import run_dir
from fer_jax.experiments import evaluate
from fer_jax.export import export_run
from fer_jax.faces.decode import decode
from fer_jax.inference.results import Face
from fer_jax.serve import response

Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Photos:
    """Rendered photos.

    Attributes:
      files: their paths.
      labels: index of the class of each.
      boxes: true box of the face in each.
    """

    files: list[str]
    labels: np.ndarray
    boxes: list[Box]


@dataclasses.dataclass(frozen=True)
class Found:
    """The face that one way found in each photo: its probabilities and its box."""

    probabilities: np.ndarray
    boxes: list[Box]


def write_photos(run: run_dir.Run, folder: Path, count: int) -> Photos:
    """Writes evenly spaced test images of the run's data as PNG files."""
    data = evaluate.open_data(run)
    rows = data.splits["test"]
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    files, boxes = [], []
    for number in chosen:
        record = data.record(int(rows[number]))
        path = folder / f"{number:05}.png"
        cv2.imwrite(str(path), cv2.cvtColor(decode(record["image"]), cv2.COLOR_RGB2BGR))
        files.append(str(path))
        x, y, width, height = map(int, record["face_box"])
        boxes.append((x, y, width, height))
    return Photos(files, data.labels("test")[chosen], boxes)


def collect(run: run_dir.Run, faces: Iterable[Mapping[str, Any]]) -> Found:
    """Collects faces as JSON objects."""
    items = list(faces)
    rows = [[face["probabilities"][name] for name in run.labels] for face in items]
    return Found(np.array(rows), [tuple(face["box"]) for face in items])


def by_predict(run: run_dir.Run, photos: Photos, out: Path) -> Found:
    """Runs `fer-jax predict` on the folder."""
    folder = Path(photos.files[0]).parent
    command = [sys.executable, "-m", "fer_jax", "predict", run.folder, folder, "--out", out]
    subprocess.run([*map(str, command), "--faces=largest", "--no_pictures"], check=True)
    content = json.loads((out / "predictions.json").read_text())
    return collect(run, (frame["faces"][0] for frame in content["frames"]))


def by_export(run: run_dir.Run, photos: Photos, out: Path, file_format: str) -> Found:
    """Exports the run and runs the script beside the file."""
    exported = out / f"run.{file_format}"
    export_run.export(run, file_format, "float32", exported, export_run.find_samples(run))
    command = [sys.executable, export_run.SCRIPT, exported.name, *photos.files, "--faces=largest"]
    done = subprocess.run(command, cwd=out, check=True, stdout=subprocess.PIPE, text=True)
    return collect(run, map(json.loads, done.stdout.splitlines()))


def on_the_page(model: Any, photos: Photos) -> Iterator[Mapping[str, Any]]:
    """Yields the face that the page shows for each photo."""
    original, shown = response.details, []

    def details(faces: tuple[Face, ...]) -> str:
        shown.append(faces[0].to_json())
        return original(faces)

    response.details = details
    try:
        for path in photos.files:
            response.respond(model, path, "largest", explain=False)
            yield shown[-1]
    finally:
        response.details = original


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    ends = np.minimum(np.add(one[:2], one[2:]), np.add(other[:2], other[2:]))
    shared = float(np.maximum(0, ends - np.maximum(one[:2], other[:2])).prod())
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def row(name: str, found: Found, photos: Photos, expected: np.ndarray | None) -> str:
    """Formats a line of the table."""
    right = (found.probabilities.argmax(axis=1) == photos.labels).mean()
    pairs = zip(found.boxes, photos.boxes, strict=True)
    shares = np.array([overlap(one, other) for one, other in pairs])
    low, middle = np.percentile(shares, (10, 50))
    difference = "" if expected is None else f"{np.abs(found.probabilities - expected).max():.0e}"
    return f"| {name} | {right:.4f} | {difference} | {middle:.2f} | {low:.2f} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="run directory, such as runs/demo")
    parser.add_argument("--photos", type=int, default=700)
    options = parser.parse_args()
    run = run_dir.open_run(options.run)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "photos").mkdir()
        photos = write_photos(run, Path(name) / "photos", options.photos)
        out, model = Path(name) / "out", fer_jax.load(options.run)
        predicted = by_predict(run, photos, out / "predicted")
        ways = {
            "`fer_jax.load`": collect(
                run, (image.faces[0].to_json() for image in model.predict(photos.files))
            ),
            "page": collect(run, on_the_page(model, photos)),
            "StableHLO, script": by_export(run, photos, out, "stablehlo"),
        }
        if importlib.util.find_spec("onnxruntime"):
            ways["ONNX, script"] = by_export(run, photos, out, "onnx")
        given = evaluate.run_evaluation(run, "test").predictions
    accuracy = (given.probabilities.argmax(axis=1) == given.labels).mean()
    print("| way | accuracy | difference from predict | overlap, median | lowest tenth below |")
    print("|---|---|---|---|---|")
    print(f"| report (true boxes, all {len(given.labels):,} images) | {accuracy:.4f} | | 1 | 1 |")
    print(row("`fer-jax predict`", predicted, photos, None))
    for name, found in ways.items():
        print(row(name, found, photos, predicted.probabilities))


if __name__ == "__main__":
    main()
