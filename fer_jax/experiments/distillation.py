"""Distillation: a student fits the probabilities of trained runs (`config.train.teacher`).

They are computed once, before training, on the images as they are stored: each teacher sees every
face framed as it was trained, at its own size, whatever the student's crop and augmentation are.
The student then trains on them as on the votes of people.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_jax import run_dir as run_directory
from fer_jax.data.feed import HostFeed
from fer_jax.data.store import StreamStore
from fer_jax.errors import UserError
from fer_jax.experiments.reframing import open_framed
from fer_jax.monitor.console import wrap
from fer_jax.run_dir import Run
from fer_jax.runtime import distributed, sharding, xla_options
from fer_jax.settings import Settings
from fer_jax.training import teacher
from fer_jax.training.build import data_arguments
from fer_jax.training.evaluation import Evaluator, make_eval_function
from fer_jax.training.restore import load_trained
from fer_jax.training.train import check
from tfds_builders import prepare
from tfds_builders.prepared import Prepared


def teach(settings: Settings, folder: Path) -> None:
    """Stores the teachers' probabilities in a new run directory; a started run has them already.

    Does nothing without `settings.train.teacher`.

    Raises:
      UserError: a teacher that is no run, or lacks a class of the student; wrong settings; data
        that cannot be used.
    """
    if not settings.train.teacher or run_directory.is_run(folder):
        return
    check(settings)  # before minutes of predictions
    teachers = open_teachers(settings.train.teacher)
    data = prepare.prepare(**data_arguments(settings))
    for run in teachers:
        check_classes(run, data.label_names)
    started = time.monotonic()
    targets = np.stack([predict(run, data) for run in teachers]).mean(axis=0).astype(np.float32)
    ids = [data.entries[row].id for row in data.splits["train"]]
    runs = [f"{run.full_name} on {run.data['name']}" for run in teachers]
    distributed.lead_first(lambda: teacher.write(folder, targets, ids, runs), lambda: folder)
    line = f"teacher: {', '.join(runs)}; probabilities of {len(ids):,} training images"
    print(*wrap(f"{line} ({time.monotonic() - started:.0f} s)"), sep="\n", flush=True)


def open_teachers(names: Sequence[str]) -> list[Run]:
    """Opens the runs of `config.train.teacher`.

    Raises:
      UserError: one is no run, or is named twice.
    """
    teachers = [run_directory.open_run(Path(name)) for name in names]
    if len({run.folder.resolve() for run in teachers}) < len(teachers):
        raise UserError(
            f"expected different runs for train.teacher, found one twice: {', '.join(names)}"
        )
    return teachers


def check_classes(run: Run, label_names: Sequence[str]) -> None:
    """Checks that a teacher knows every class of the student; it may know more.

    Raises:
      UserError: it lacks one.
    """
    if missing := [name for name in label_names if name not in run.labels]:
        raise UserError(
            f"expected a teacher that knows the student's classes ({', '.join(label_names)}), "
            f"found {run.folder}, which lacks {', '.join(missing)}; name a run of these classes "
            "in train.teacher"
        )


def predict(run: Run, data: Prepared) -> np.ndarray:
    """Returns a teacher's probabilities of the student's classes: float64[N, C], rows sum to 1.

    Of the training images framed for the teacher, with its test-time augmentation. Probabilities of
    classes that the student lacks do not count. Without the teacher's temperature: a network that
    has learned from votes is sharpened by it, and students of softer targets were better.
    """
    split = open_framed(run, data, "train").split
    # Scores against the labels are not needed, and the label order may differ.
    split = dataclasses.replace(
        split, labels=np.zeros_like(split.labels), extras=run.heads.unknown(len(split))
    )
    mesh = sharding.data_mesh(math.gcd(run.settings.train.fsdp, len(sharding.all_devices())))
    network = load_trained(run, mesh)
    eval_step = make_eval_function(
        network.model, run.preprocessing, run.settings.eval.tta, heads=run.heads
    )
    # Decoded as they are needed: at the teacher's size they may not fit into memory.
    feed = HostFeed(StreamStore(split), mesh)
    batch_size = -(-run.settings.eval.batch_size // mesh.size) * mesh.size
    options = xla_options.for_model(network.model)
    evaluator = Evaluator(eval_step, feed, len(split), batch_size, mesh, options)
    columns = [run.labels.index(name) for name in data.label_names]
    chosen = evaluator(network.variables).probabilities[:, columns].astype(np.float64)
    return chosen / chosen.sum(axis=1, keepdims=True)
