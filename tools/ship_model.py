"""Puts a trained run into the package as a small run directory with a model card.

    python -m tools.ship_model runs/ferplus --data_dir ~/tensorflow_datasets --split test

Writes fer_jax/shipped/NAME: float16 weights, the calibration, digests of what the network learned
from (no images), the report's scores, measurements and the card. `--split test` reads the test
split, so run it once, when the run is final; with `validation` the card says that its figures are
those of validation. `--card` writes only the card again, from the stored measurements.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fer_jax import files, run_dir
from fer_jax.data.records import decode_all, open_split
from fer_jax.experiments import evaluate
from fer_jax.experiments.calibrate import calibrate
from fer_jax.inference.model import Model
from fer_jax.report.predictions import Predictions
from fer_jax.report.slices import slice_scores
from fer_jax.run_dir import Run
from fer_jax.runtime import sharding
from fer_jax.training import packed
from fer_jax.training.restore import load_trained
from tfds_builders.synthface.head import load_head
from tfds_builders.synthface.identity import draw_person
from tfds_builders.synthface.spec import PERSON, Spec
from tfds_builders.synthface.subject import render_subject
from tools import model_card

RENDERED = Spec(
    "model_card", 1900, 100, 200, yaws=(-45.0, 0.0, 45.0), views=1, fill=(0.55, 0.68), glasses=0.5
)
"""Photos of 100 people: each of seven expressions once, from one of three cameras."""


def main() -> None:
    """Writes the folder and prints its size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="run directory, or a shipped name with --card")
    parser.add_argument("--name", default=run_dir.DEFAULT_RUN.name, help="of the shipped run")
    parser.add_argument("--data_dir", help="where the run's data is prepared")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--people", type=int, default=100, help="rendered, for the groups")
    parser.add_argument("--card", action="store_true", help="write the card only")
    options = parser.parse_args()
    folder = run_dir.SHIPPED / options.name
    if not options.card:
        run = run_dir.open_run(options.run)
        if run.is_shipped:
            raise SystemExit(f"expected a trained run, found the shipped {run.name}; add --card")
        shutil.rmtree(folder, ignore_errors=True)
        ship(run, folder, options.data_dir, options.split, options.people)
    model_card.write(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.2f} MB")


def ship(run: Run, folder: Path, data_dir: str | None, split: str, people: int) -> None:
    """Writes the run directory and measures it; the card is written from its files."""
    shipped = pack(run, folder)
    local = _with_data(shipped, data_dir or run.settings.data.dir)
    calibration = calibrate(local)
    facts = {
        "split": split,
        "images": {name: len(rows) for name, rows in evaluate.open_data(local).splits.items()},
        "float16": compare(run, local),
        "calibration": dataclasses.asdict(calibration),
        "rendered": rendered(shipped, people),
    }
    # Not TensorBoard's events of `is_own`, and not the report's images.
    evaluation = dataclasses.replace(evaluate.run_evaluation(local, split), is_own=False)
    with tempfile.TemporaryDirectory() as place:
        paths = evaluate.report_evaluation(dataclasses.replace(evaluation, folder=Path(place)))
        report = json.loads(paths.json.read_text())
    files.write_text(folder / "report" / "report.json", json.dumps(report) + "\n")
    files.write_text(folder / model_card.FACTS, json.dumps(facts, indent=2) + "\n")


def pack(run: Run, folder: Path) -> Run:
    """Writes the files of the shipped run, without calibration and card."""
    trained = load_trained(run, sharding.one_device_mesh())
    weights = packed.Packed(
        jax.device_get(trained.variables), trained.step, trained.averaged, trained.seconds
    )
    learned = run_dir.read_learned(run)
    content = b"" if learned is None else learned.without_pixels().to_bytes()
    if content:
        files.write_bytes(folder / run_dir.LEARNED, content)
    data = dataclasses.replace(run.settings.data, dir=None, manual_dir=None, relabel=None)
    shipped = dataclasses.replace(
        run,
        folder=folder,
        settings=dataclasses.replace(run.settings, data=data),
        learned=hashlib.sha256(content).hexdigest() if content else "",
        packed=packed.write(folder, weights),
    )
    run_dir.write(shipped, run_dir.read_versions(run))
    return run_dir.open_run(folder)


def compare(run: Run, shipped: Run) -> dict[str, Any]:
    """Compares float16 weights with the run's own, on validation and at temperature 1."""
    data = evaluate.open_data(shipped)
    records = decode_all(open_split(data, "validation", run.preprocessing))
    before, after = (
        evaluate.predict_records(one, records, is_calibrated=False)[1] for one in (run, shipped)
    )
    difference = np.abs(before - after)
    return {
        "images": len(records),
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "same_class": float((before.argmax(axis=1) == after.argmax(axis=1)).mean()),
        "accuracy": [float((one.argmax(axis=1) == records.labels).mean())
                     for one in (before, after)],
    }  # fmt: skip


def rendered(run: Run, people: int) -> dict[str, Any]:
    """Measures rendered photos as `predict` reads them; a missed face counts as wrong."""
    model = Model(run)
    shots = [
        (shot, person.glasses is not None)
        for index in range(people)
        for person in [draw_person(load_head(), RENDERED.rng(index, PERSON), RENDERED.glasses)]
        for shot in render_subject(RENDERED, index)
    ]
    found = model.predict([shot.image for shot, _ in shots], whole_image=False)
    labels = np.array([model.labels.index(shot.expression) for shot, _ in shots])
    rows = np.eye(len(model.labels), dtype=np.float32)[(labels + 1) % len(model.labels)]  # missed
    for row, prediction in enumerate(found):
        if prediction.faces:
            rows[row] = list(prediction.faces[0].probabilities.values())
    predictions = Predictions(
        ids=tuple(shot.id for shot, _ in shots),
        labels=labels.astype(np.int32),
        probabilities=rows,
        groups=tuple(shot.subject for shot, _ in shots),
        label_names=model.labels,
    )
    attributes = {
        "skin": [_third(shot.skin, "light", "dark") for shot, _ in shots],
        "age": [_third(shot.age, "young", "old") for shot, _ in shots],
        "sex": ["male" if shot.sex > 0.5 else "female" for shot, _ in shots],
        "glasses": ["yes" if glasses else "no" for _, glasses in shots],
        "head turn": [f"{abs(shot.yaw):.0f} degrees" for shot, _ in shots],
        "expression": [shot.expression for shot, _ in shots],
    }
    correct = predictions.predicted == predictions.labels
    return {
        "images": len(shots),
        "people": people,
        "found": sum(bool(one.faces) for one in found),
        "accuracy": float(correct.mean()),
        "slices": {
            name: [dataclasses.asdict(part) for part in parts]
            for name, parts in slice_scores(predictions, attributes).items()
        },
    }


def _third(value: float, low: str, high: str) -> str:
    """Names the third of the range 0 to 1 that the renderer's attribute is in."""
    return low if value < 1 / 3 else "medium" if value < 2 / 3 else high


def _with_data(run: Run, data_dir: str | None) -> Run:
    """Returns the run with a folder of prepared data, which the shipped config does not name."""
    data = dataclasses.replace(run.settings.data, dir=data_dir)
    return dataclasses.replace(run, settings=dataclasses.replace(run.settings, data=data))


if __name__ == "__main__":
    main()
