"""Cross-validation: trains and tests on every fold, with several seeds, and pools predictions.

    fer-jax crossval --config configs/kdef.py --folds 10 --seeds 3
    fer-jax crossval --config configs/raf_db.py --folds none --seeds 0,1,2

Folds are disjoint by subject: each subject is tested once per seed, by a network that was not
trained on it. Without folds the config's own protocol is repeated with every seed. Every fold and
seed is a run in WORKDIR/fold_K/seed_S (WORKDIR/seed_S); the same command resumes where it was
stopped. The pooled report is in WORKDIR/report.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax import run_dir as run_directory
from fer_jax.data.records import Split, open_split
from fer_jax.errors import UserError
from fer_jax.experiments import evaluate
from fer_jax.experiments.calibrate import calibrate
from fer_jax.experiments.comparison import CROSSVAL
from fer_jax.experiments.distillation import teach
from fer_jax.experiments.overlap import count_overlap
from fer_jax.report import predictions as saved
from fer_jax.report.card import Overlap, ReportCard
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import Scores, accuracy, balanced_accuracy
from fer_jax.report.write import ReportPaths, write_report
from fer_jax.run_dir import Run
from fer_jax.settings import Settings
from fer_jax.training import train
from fer_jax.training.build import data_arguments
from tfds_builders import prepare

MIN_FOLDS = 3  # one each for test, validation and training
NO_FOLDS = 0
"""Number of folds that stands for the config's own protocol."""


@dataclasses.dataclass(frozen=True)
class FoldRun:
    """One run: a fold with a seed.

    Attributes:
      fold: index of the fold, from 1; 0 for the config's own protocol.
      seed: training seed.
      settings: settings of the run.
      folder: the run directory.
    """

    fold: int
    seed: int
    settings: Settings
    folder: Path

    @property
    def name(self) -> str:
        """Fold and seed, for people."""
        return f"fold {self.fold}, seed {self.seed}" if self.fold else f"seed {self.seed}"

    @property
    def predictions(self) -> Path:
        """Predictions of the test fold; the last file of a finished run."""
        return self.folder / "report" / "predictions.csv"


class PooledImages:
    """Images of several splits in a row, decoded on access."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self._rows = [(split, row) for split in splits for row in range(len(split))]
        self.shape = (len(self._rows), *splits[0].read(0).shape)

    def __getitem__(self, row: int) -> np.ndarray:
        split, index = self._rows[row]
        return split.read(index)


def plan(settings: Settings, folder: Path, folds: int, seeds: Sequence[int]) -> list[FoldRun]:
    """Returns the runs in order: all folds of the first seed, then of the next.

    Raises:
      UserError: too few folds or seeds, or a seed given twice.
    """
    if (folds != NO_FOLDS and folds < MIN_FOLDS) or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(
            f"expected --folds of at least {MIN_FOLDS} (test, validation, training) or none, and "
            f"one or more different --seeds, found {folds} and {', '.join(map(str, seeds))}"
        )
    fold_runs = []
    for seed in seeds:
        for fold in range(1, folds + 1) if folds else (0,):
            protocol = f"fold{fold}of{folds}" if folds else settings.data.protocol
            data = dataclasses.replace(settings.data, protocol=protocol)
            changed = dataclasses.replace(settings, data=data, seed=seed)
            place = folder / f"fold_{fold}" if fold else folder
            fold_runs.append(FoldRun(fold, seed, changed, place / f"seed_{seed}"))
    return fold_runs


def crossval(settings: Settings, folder: Path, folds: int, seeds: Sequence[int]) -> ReportPaths:
    """Trains the runs that are not finished, pools the predictions and writes the report.

    Args:
      settings: settings of every run, except its protocol and seed.
      folder: folder of all runs, the command's WORKDIR.
      folds: number of folds, split by subject if the data set has subjects; `NO_FOLDS` for the
        settings' own protocol.
      seeds: seeds of each fold.

    Raises:
      UserError: wrong input, initial weights of a run that learned from the data, or the folder
        has a cross-validation with other folds or other data.
      InterruptedRunError: on SIGINT, SIGTERM or SIGHUP, after everything is saved.
    """
    fold_runs = plan(settings, folder, folds, seeds)
    _check_ancestors(fold_runs[0])
    _check_folder(folder, folds, fold_runs)
    for number, fold_run in enumerate(fold_runs, start=1):
        title = f"{fold_run.name} ({number} of {len(fold_runs)})"
        if fold_run.predictions.exists() and run_directory.has_settings(
            fold_run.folder, fold_run.settings
        ):
            print(f"{title}: already finished", flush=True)
            continue
        print(f"{title}: {fold_run.folder}", flush=True)
        scores = train_and_test(fold_run.settings, fold_run.folder)
        print(f"{title}: balanced accuracy {scores.balanced_accuracy:.4f}", flush=True)
    return pool(fold_runs, folder, folds, len(seeds))


def train_and_test(settings: Settings, folder: Path) -> Scores:
    """Trains a run, or the rest of it, and reports its test split.

    Raises:
      UserError: wrong input.
      InterruptedRunError: on SIGINT, SIGTERM or SIGHUP, after everything is saved.
    """
    teach(settings, folder)
    run = train.train(settings, folder)
    if run.settings.eval.calibrate:
        calibrate(run)
    return evaluate.report_training(evaluate.run_evaluation(run, split="test")).scores


def pool(fold_runs: Sequence[FoldRun], folder: Path, folds: int, seeds: int) -> ReportPaths:
    """Writes the report over all folds and seeds; its intervals are over subjects."""
    predictions = [saved.load(fold_run.predictions) for fold_run in fold_runs]
    runs = [run_directory.open_run(fold_run.folder) for fold_run in fold_runs]
    prepared = [evaluate.open_data(run) for run in runs]
    votes = [found for data in prepared if (found := data.votes("test")) is not None]
    pooled = saved.join(
        predictions,
        ids=tuple(
            f"seed_{fold_run.seed}/{record_id}" if seeds > 1 else record_id
            for fold_run, one in zip(fold_runs, predictions, strict=True)
            for record_id in one.ids
        ),
        groups=_groups(predictions),
        unit=_unit(predictions, prepared[0].metadata["group"]),
        votes=np.concatenate(votes) if votes else None,
    )
    splits = [
        open_split(data, "test", run.preprocessing)
        for data, run in zip(prepared, runs, strict=True)
    ]
    card = dataclasses.replace(_card(runs), run=folder.absolute().name, folds=folds, seeds=seeds)
    if folds:
        card = dataclasses.replace(card, protocol=f"{folds} folds")
    return write_report(
        folder / "report",
        pooled,
        PooledImages(splits),
        card,
        samples=fold_runs[0].settings.eval.samples,
        details={"Folds and seeds": spread(fold_runs, predictions)},
    )


def spread(
    fold_runs: Sequence[FoldRun], predictions: Sequence[Predictions]
) -> list[tuple[str, str]]:
    """Returns mean and standard deviation of the scores over folds and over seeds, as a table."""
    rows = []
    seeds = sorted({fold_run.seed for fold_run in fold_runs})
    pairs = list(zip(fold_runs, predictions, strict=True))
    of_seeds = {seed: [one for run, one in pairs if run.seed == seed] for seed in seeds}
    for name, score in (("balanced accuracy", balanced_accuracy), ("accuracy", accuracy)):
        of_part = np.array([float(score(one.confusion())) for one in predictions])
        of_seed = np.array(
            [float(score(np.sum([one.confusion() for one in of_seeds[seed]], 0))) for seed in seeds]
        )
        if fold_runs[0].fold:
            rows.append((f"{name}, over the folds", _mean_and_deviation(of_part)))
        if len(seeds) > 1:
            pooled = " (folds pooled)" if fold_runs[0].fold else ""
            rows.append((f"{name}, over the seeds{pooled}", _mean_and_deviation(of_seed)))
    for fold_run, one in pairs:
        value = float(balanced_accuracy(one.confusion()))
        rows.append((fold_run.name, f"{value:.4f} of {len(one):,}"))
    return rows


def _mean_and_deviation(values: np.ndarray) -> str:
    deviation = f" (standard deviation {values.std(ddof=1):.4f})" if len(values) > 1 else ""
    return f"{values.mean():.4f}{deviation}, {len(values)} values"


def _groups(predictions: Sequence[Predictions]) -> tuple[str, ...]:
    """Returns the subjects; an image without one is its own group, shared by all seeds."""
    return tuple(
        group or record_id
        for one in predictions
        for group, record_id in zip(one.groups, one.ids, strict=True)
    )


def _unit(predictions: Sequence[Predictions], unit: str) -> str:
    """Returns what the groups are, `unit` where all are known."""
    named = [bool(group) for one in predictions for group in one.groups]
    return unit if all(named) else "group" if any(named) else "image"


def _card(runs: Sequence[Run]) -> ReportCard:
    """Returns the first run's card, with the total time and the leaks of all folds."""
    stored = [json.loads((run.report / "report.json").read_text())["card"] for run in runs]
    cards = [ReportCard.from_json(one) for one in stored]
    return dataclasses.replace(
        cards[0],
        train_seconds=sum(card.train_seconds for card in cards),
        leaks=max(card.leaks for card in cards),
        near_duplicates=max(card.near_duplicates for card in cards),
        view_share=float(np.mean([card.view_share for card in cards])),
        overlap=_pooled([card.overlap for card in cards]),
        temperature=1.0,  # each run has its own
    )


def _pooled(overlaps: Sequence[Overlap | None]) -> Overlap | None:
    """Returns the sum over all runs; None if some fold was tested by an older version."""
    known = [one for one in overlaps if one is not None]
    return functools.reduce(operator.add, known) if len(known) == len(overlaps) else None


def _check_ancestors(fold_run: FoldRun) -> None:
    """Refuses initial weights and teachers that learned from images or people that are tested.

    Over all folds that is everyone, so that none is fair.
    """
    settings = fold_run.settings
    named = [("model.pretrained", "initial weights", settings.model.pretrained)]
    named += [("train.teacher", "teachers", name) for name in settings.train.teacher]
    for field, what, name in named:
        folder = run_directory.find_run(name)
        if not run_directory.is_run(folder):
            continue
        learned = run_directory.read_learned(run_directory.open_run(folder))
        data = prepare.prepare(**data_arguments(settings))
        every = np.concatenate(list(data.splits.values()))
        tested = every if fold_run.fold else data.splits["test"]
        found = count_overlap(learned, data, tested, "")
        if found.ids or found.subjects:
            raise UserError(
                f"expected {what} that have not seen the people who are tested, found {folder}, "
                f"which learned from {found.ids:,} of the {found.images:,} images and from "
                f"{found.subjects:,} people; choose another config.{field}"
            )


def _check_folder(folder: Path, folds: int, fold_runs: Sequence[FoldRun]) -> None:
    """Stores folds, seeds and digests of the data; refuses a folder with other folds or data.

    The digest of a fold covers images, labels and splits, those of its test split too.
    """
    path = folder / CROSSVAL
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"folds": folds}
    if stored["folds"] != folds:
        raise UserError(
            f"expected {folds or 'no'} folds in {folder}, found a cross-validation of "
            f"{stored['folds'] or 'no folds'}; resume it with --folds {stored['folds'] or 'none'} "
            "or choose another --workdir"
        )
    before = stored.get("data", {})  # older versions stored none
    digests = {}
    for fold_run in fold_runs:
        name = str(fold_run.fold)
        if name not in digests:
            data = prepare.prepare(**data_arguments(fold_run.settings))
            digests[name] = str(data.metadata["digest"])
    changed = [name for name, digest in digests.items() if before.get(name, digest) != digest]
    if changed:
        raise UserError(
            f"expected the data that the cross-validation in {folder} was started with, found "
            f"other images, labels or splits (in {len(changed)} of {len(digests)} folds); restore "
            "them, or choose another --workdir"
        )
    seeds = list(dict.fromkeys(fold_run.seed for fold_run in fold_runs))
    content = {"folds": folds, "seeds": seeds, "data": digests}
    files.write_text(path, json.dumps(content) + "\n")
