"""Trains and tests on every fold of a data set, with several seeds, and pools what was said.

    fer-jax crossval --config configs/kdef.py --folds 10 --seeds 3

Nobody is in two folds, so each person is tested once per seed, by a network that never saw
them. Every fold and seed is a run of its own in WORKDIR/fold_K/seed_S; the same command
again continues where it stopped. The pooled report lies in WORKDIR/report.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fer_jax import config as configuration
from fer_jax import files
from fer_jax import run_dir as run_directory
from fer_jax.data.records import Split, open_split
from fer_jax.errors import UserError
from fer_jax.experiments import evaluate
from fer_jax.report import predictions as saved
from fer_jax.report.card import ReportCard
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import accuracy, balanced_accuracy
from fer_jax.report.write import ReportPaths, write_report
from fer_jax.run_dir import Run
from fer_jax.training import train

LEAST_FOLDS = 3  # one to test, one to stop by, one to learn from


@dataclasses.dataclass(frozen=True)
class Part:
    """One fold with one seed: a run of its own.

    Attributes:
      fold: from 1.
      seed: of the training.
      config: the locked configuration.
      folder: the run directory.
    """

    fold: int
    seed: int
    config: ConfigDict
    folder: Path

    @property
    def predictions(self) -> Path:
        """What was said of the fold's pictures; written last."""
        return self.folder / "report" / "predictions.csv"


class Pictures:
    """The pictures behind pooled predictions, decoded when they are shown."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self._rows = [(split, row) for split in splits for row in range(len(split))]
        self.shape = (len(self._rows), *splits[0].read(0).shape)

    def __getitem__(self, row: int) -> np.ndarray:
        split, place = self._rows[row]
        return split.read(place)


def plan(config: ConfigDict, folder: Path, folds: int, seeds: int) -> list[Part]:
    """The runs in the order in which they are done: all folds of the first seed first.

    Raises:
      UserError: too few folds or seeds, or a configuration that has a protocol already.
    """
    if folds < LEAST_FOLDS or seeds < 1:
        raise UserError(
            f"expected --folds of at least {LEAST_FOLDS} (test, validation, training) and --seeds "
            f"of at least 1, found {folds} and {seeds}"
        )
    parts = []
    for seed in range(config.seed, config.seed + seeds):
        for fold in range(1, folds + 1):
            own = ConfigDict(config.to_dict())
            own.data.protocol = f"fold{fold}of{folds}"
            own.seed = seed
            own.lock()
            parts.append(Part(fold, seed, own, folder / f"fold_{fold}" / f"seed_{seed}"))
    return parts


def crossval(config: ConfigDict, folder: Path, folds: int, seeds: int) -> ReportPaths:
    """Trains what is not trained yet, pools the predictions and writes the report.

    Args:
      config: of every run but for its protocol and seed.
      folder: of all runs; WORKDIR of the command.
      folds: parts of the data set, by subject where it has subjects.
      seeds: trainings of each fold; the first has `config.seed`.

    Raises:
      UserError: input that cannot be used, or another cross-validation in the folder.
      InterruptedRunError: on SIGINT or SIGTERM, when everything is saved.
    """
    parts = plan(config, folder, folds, seeds)
    _claim(folder, folds)
    for number, part in enumerate(parts, start=1):
        title = f"fold {part.fold} of {folds}, seed {part.seed} ({number} of {len(parts)})"
        if part.predictions.exists() and _is_same(part):
            print(f"{title}: done before", flush=True)
            continue
        print(f"{title}: {part.folder}", flush=True)
        run = train.train(part.config, part.folder)
        scores = evaluate.evaluate(run, split="test").scores
        print(f"{title}: balanced accuracy {scores.balanced_accuracy:.4f}", flush=True)
    return pool(parts, folder, folds, seeds)


def pool(parts: Sequence[Part], folder: Path, folds: int, seeds: int) -> ReportPaths:
    """The report over all folds and seeds; whole people are resampled, with all seeds."""
    said = [saved.load(part.predictions) for part in parts]
    runs = [run_directory.open_run(part.folder) for part in parts]
    pooled = Predictions(
        ids=tuple(
            f"seed_{part.seed}/{one}" if seeds > 1 else one
            for part, its in zip(parts, said, strict=True)
            for one in its.ids
        ),
        labels=np.concatenate([one.labels for one in said]),
        probabilities=np.concatenate([one.probabilities for one in said]),
        groups=_groups(said),
        label_names=said[0].label_names,
    )
    prepared = [evaluate.open_data(run) for run in runs]
    splits = [
        open_split(data, "test", run.preprocessing)
        for data, run in zip(prepared, runs, strict=True)
    ]
    card = dataclasses.replace(
        _card(runs), run=folder.absolute().name, protocol=f"{folds} folds", folds=folds, seeds=seeds
    )
    return write_report(
        folder / "report",
        pooled,
        Pictures(splits),
        card,
        samples=parts[0].config.eval.samples,
        details={"Folds and seeds": spread(parts, said)},
    )


def spread(parts: Sequence[Part], said: Sequence[Predictions]) -> list[tuple[str, str]]:
    """Mean and standard deviation of the figures over folds, and over seeds, as a table."""
    rows = []
    for name, figure in (("balanced accuracy", balanced_accuracy), ("accuracy", accuracy)):
        of_part = np.array([float(figure(one.confusion())) for one in said])
        seeds = sorted({part.seed for part in parts})
        of_seed = np.array(
            [
                float(figure(np.sum([one.confusion() for one in _of_seed(parts, said, seed)], 0)))
                for seed in seeds
            ]
        )
        rows.append((f"{name}, over the folds", _mean_and_deviation(of_part)))
        if len(seeds) > 1:
            rows.append((f"{name}, over the seeds (folds pooled)", _mean_and_deviation(of_seed)))
    for part, one in zip(parts, said, strict=True):
        value = float(balanced_accuracy(one.confusion()))
        rows.append((f"fold {part.fold}, seed {part.seed}", f"{value:.4f} of {len(one):,}"))
    return rows


def _of_seed(parts: Sequence[Part], said: Sequence[Predictions], seed: int) -> list[Predictions]:
    return [one for part, one in zip(parts, said, strict=True) if part.seed == seed]


def _mean_and_deviation(values: np.ndarray) -> str:
    deviation = f" (standard deviation {values.std(ddof=1):.4f})" if len(values) > 1 else ""
    return f"{values.mean():.4f}{deviation}, {len(values)} values"


def _groups(said: Sequence[Predictions]) -> tuple[str, ...]:
    """The subjects; a picture without one is its own group, the same with every seed."""
    return tuple(
        group or record_id
        for one in said
        for group, record_id in zip(one.groups, one.ids, strict=True)
    )


def _card(runs: Sequence[Run]) -> ReportCard:
    """The first run's card, with the time of all and the leaks of the worst."""
    stored = [json.loads((run.report / "report.json").read_text())["card"] for run in runs]
    cards = [ReportCard.from_json(one) for one in stored]
    return dataclasses.replace(
        cards[0],
        train_seconds=sum(card.train_seconds for card in cards),
        leaks=max(card.leaks for card in cards),
        near_duplicates=max(card.near_duplicates for card in cards),
    )


def _claim(folder: Path, folds: int) -> None:
    """One folder holds one division into folds."""
    path = folder / "crossval.json"
    if path.exists():
        before = json.loads(path.read_text())["folds"]
        if before != folds:
            raise UserError(
                f"expected {folder} to hold {folds} folds, found a cross-validation of {before}; "
                f"continue it with --folds {before} or choose another --workdir"
            )
    files.write_text(path, json.dumps({"folds": folds}) + "\n")


def _is_same(part: Part) -> bool:
    """Whether the finished run is the one that is asked for; else training says what differs."""
    stored = configuration.flatten(run_directory.open_run(part.folder).config)
    asked = configuration.flatten(part.config)
    fields = (stored.keys() | asked.keys()) - run_directory.CHANGEABLE
    return all(stored.get(field) == asked.get(field) for field in fields)
