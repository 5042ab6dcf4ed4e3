"""Evaluates a run's best checkpoint on a split and writes the report.

    python -m fer_jax.evaluate runs/demo --split test

What the network sees is prepared as the run directory says; nothing is retyped here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import errors
from fer_jax import run as run_directory
from fer_jax.data.pixel_cache import load_cached
from fer_jax.data.records import Records, open_split
from fer_jax.engine import compile_cache, sharding, tta
from fer_jax.engine.checkpoint import Restored
from fer_jax.engine.evaluation import evaluate_records
from fer_jax.engine.state import count_parameters
from fer_jax.engine.steps import make_eval_step
from fer_jax.engine.writers import TensorBoardWriter
from fer_jax.errors import UserError
from fer_jax.report.card import ReportCard
from fer_jax.report.predictions import Predictions
from fer_jax.report.write import ReportPaths, write_report
from fer_jax.run import Run
from fer_jax.trained import load_trained
from tfds_builders import build


def evaluate(run: Run, split: str) -> ReportPaths:
    """Evaluates the best checkpoint on `split`, writes the report and prints it.

    Raises:
      UserError: no checkpoint, a damaged one, or data with other classes than the run's.
    """
    config = run.config
    builder = build.prepare(
        config.data.name, config.data.config, config.data.dir, config.data.manual_dir
    )
    check_labels(run, tuple(builder.info.features["label"].names))
    records = load_cached(open_split(builder, split, run.preprocessing))
    best, probabilities = predict_records(run, records)
    predictions = Predictions(
        ids=records.ids,
        labels=records.labels,
        probabilities=probabilities,
        groups=records.groups,
        label_names=run.labels,
    )
    card = make_card(run, builder, split, best)
    paths = write_report(
        run.report, predictions, records.images, card, run.metrics, config.eval.samples
    )
    write_tensorboard(run, split, best.step, paths)
    print(paths.text.read_text())
    for path in sorted(paths.folder.iterdir()):
        print(path)
    return paths


def check_labels(run: Run, names: tuple[str, ...]) -> None:
    """Refuses data whose classes are not those of the run's head.

    Raises:
      UserError: naming both.
    """
    if names != run.labels:
        raise UserError(
            f"the run {run.folder} tells {len(run.labels)} classes apart "
            f"({', '.join(run.labels)}); the data has {len(names)} ({', '.join(names)}); "
            "evaluate it on data with its classes, or train another run"
        )


def predict_records(run: Run, records: Records) -> tuple[Restored, np.ndarray]:
    """The best checkpoint, and its probabilities float32[N, C] for the records."""
    mesh = sharding.data_mesh()
    sharding.check_batch_size("config.eval.batch_size", run.config.eval.batch_size, mesh)
    network = load_trained(run, mesh)
    evaluation = evaluate_records(
        make_eval_step(network.model, run.preprocessing, mesh, run.config.eval.tta),
        network.best.state.inference_variables,
        records,
        run.config.eval.batch_size,
        mesh,
    )
    return network.best, evaluation.probabilities


def make_card(run: Run, builder: Any, split: str, best: Restored) -> ReportCard:
    """The circumstances that the report states."""
    metadata = builder.info.metadata
    return ReportCard(
        run=run.name,
        dataset=builder.info.name,
        config=builder.builder_config.name if builder.builder_config else "",
        protocol=metadata["protocol"],
        split=split,
        model=run.config.model.name,
        parameters=count_parameters(best.state.params),
        seed=run.config.seed,
        step=best.step,
        train_seconds=best.memory["seconds"],
        weights=describe_weights(run),
        averaged=best.state.ema is not None,
        views=tta.VIEWS[run.config.eval.tta],
        synthetic=metadata["synthetic"],
        stand_in=metadata["stand_in"],
        derived_labels=metadata["derived_labels"],
        leaks=metadata["leaks"],
        notes=(metadata["notes"],) if metadata["notes"] else (),
    )


def describe_weights(run: Run) -> str:
    """Where the network's first weights came from; hashes as they begin, whole in run.json."""
    if run.weights is None:
        return "random initialisation"
    stored = run.weights
    if stored["layout"] == "run":
        return f"the run {stored['file']} on {stored['source']} (sha256 {stored['sha256']})"
    return (
        f"{stored['file']} (sha256 {stored['sha256'][:16]}), ported from {stored['source']} "
        f"({stored['layout']}, sha256 {stored['source_sha256'][:16]})"
    )


def write_tensorboard(run: Run, split: str, step: int, paths: ReportPaths) -> None:
    """Puts the scores and the report's pictures beside the curves."""
    scores = paths.scores
    numbers = {"accuracy": scores.accuracy, "balanced_accuracy": scores.balanced_accuracy}
    pictures = {f"{split}/{name}": picture[None] for name, picture in paths.drawings.items()}
    writer = TensorBoardWriter(run.folder)
    writer.write_scalars(step, {f"{split}/{name}": value for name, value in numbers.items()})
    writer.write_images(step, pictures)
    writer.close()


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_jax.evaluate", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="run directory, such as runs/demo")
    parser.add_argument("--split", default="test", help="split to evaluate (default: test)")
    options = parser.parse_args(arguments)
    compile_cache.enable()
    evaluate(run_directory.open_run(options.run), options.split)


if __name__ == "__main__":
    with errors.exit_cleanly():
        main(sys.argv[1:])
