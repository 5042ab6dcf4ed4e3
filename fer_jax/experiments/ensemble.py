"""Evaluates an ensemble: the mean of the calibrated probabilities of several runs.

    fer-jax evaluate runs/a runs/b runs/c --split test

All runs predict the same records, each with its own preprocessing; the first run names the data.
Each member is evaluated as `evaluate` does, so that each one's leaks are counted. The report has a
folder of its own, runs/NAMES, and says what each member reaches alone.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_jax import run_dir as run_directory
from fer_jax.errors import UserError
from fer_jax.experiments.evaluate import (
    OtherData,
    RunEvaluation,
    evaluation_name,
    open_data,
    run_evaluation,
    with_all,
)
from fer_jax.experiments.overlap import count_overlap
from fer_jax.report.card import Overlap, ReportCard
from fer_jax.report.head_answers import HeadAnswers
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import accuracy, balanced_accuracy
from fer_jax.report.write import ReportPaths, write_report
from fer_jax.run_dir import Run
from tfds_builders.prepared import Prepared

_MAX_NAME = 80  # of the report's folder, characters


def evaluate_ensemble(
    runs: Sequence[Run], split: str, other: OtherData, abstain: float = 0.0
) -> ReportPaths:
    """Evaluates the mean of several runs on the same records and writes the report.

    Args:
      runs: two or more; the first one's data are evaluated unless `other` names some.
      split: name of the split.
      other: as in `evaluate`.
      abstain: as in `evaluate`.

    Raises:
      UserError: a run twice, runs with other classes, or data that cannot be used.
    """
    _check_members(runs)
    data = with_all(open_data(runs[0], other))
    members = [run_evaluation(run, split, other, data) for run in runs]
    predictions = mean_predictions(members)
    first, row_of = members[0], {data.entries[row].id: row for row in data.splits[split]}
    rows = np.array([row_of[one] for one in predictions.ids])
    card = dataclasses.replace(_card(members), overlap=_overlap(runs, data, rows), abstain=abstain)
    return write_report(
        Path("runs") / ensemble_name(runs) / "evaluations" / evaluation_name(data, split),
        predictions,
        first.records.images,
        card,
        samples=first.run.settings.eval.samples,
        attributes=first.attributes,
        details={"Members": member_rows(members)},
    )


def mean_predictions(members: Sequence[RunEvaluation]) -> Predictions:
    """Returns the predictions of the ensemble, in the classes of the first member.

    Raises:
      UserError: the members have predicted other records.
    """
    first = members[0].predictions
    total = np.zeros(first.probabilities.shape, np.float64)
    for member in members:
        found = member.predictions
        if found.ids != first.ids:
            raise UserError(
                f"expected the same images for all runs, found others for {member.run.folder}; "
                "name data that all of them can use (--data)"
            )
        order = [found.label_names.index(name) for name in first.label_names]
        total += found.probabilities[:, order]
    heads = _mean_heads([member.predictions.heads for member in members])
    return dataclasses.replace(first, probabilities=total / len(members), heads=heads)


def _mean_heads(found: Sequence[HeadAnswers | None]) -> HeadAnswers | None:
    """Returns the mean answers of further heads; None unless all members have the same."""
    known = [one for one in found if one is not None]
    if len(known) < len(found) or len({one.heads.names for one in known}) > 1:
        return None
    return dataclasses.replace(known[0], answers=np.mean([one.answers for one in known], axis=0))


def ensemble_name(runs: Sequence[Run]) -> str:
    """Returns the folder name of an ensemble: the names of its runs, or a part and a digest."""
    name = "+".join(run.full_name.replace("/", "_") for run in runs)
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[: _MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def member_rows(members: Sequence[RunEvaluation]) -> list[tuple[str, str]]:
    """Returns what each member reaches alone, and what it learned from, as a table."""
    rows = []
    for member in members:
        confusion, card = member.predictions.confusion(), member.card
        scores = {"accuracy": accuracy(confusion), "balanced": balanced_accuracy(confusion)}
        parts = [card.model, *(f"{name} {float(value):.4f}" for name, value in scores.items())]
        parts.append(f"temperature {card.temperature:.4g}")
        learned = f"; learned from {card.overlap.text}" if card.overlap else ""
        rows.append((member.run.full_name, ", ".join(parts) + learned))
    return rows


def _check_members(runs: Sequence[Run]) -> None:
    folders = [run.folder.resolve() for run in runs]
    if len(set(folders)) < len(folders):
        raise UserError(
            "expected different runs for an ensemble, found one twice: "
            + ", ".join(str(run.folder) for run in runs)
        )
    for run in runs[1:]:
        if set(run.labels) != set(runs[0].labels):
            raise UserError(
                f"expected runs with the same classes, found {', '.join(runs[0].labels)} in "
                f"{runs[0].folder} and {', '.join(run.labels)} in {run.folder}"
            )


def _card(members: Sequence[RunEvaluation]) -> ReportCard:
    cards = [member.card for member in members]
    networks = dict.fromkeys(card.model for card in cards)
    return dataclasses.replace(
        cards[0],
        run=" + ".join(member.run.full_name for member in members),
        model=f"mean of {len(cards)} networks ({', '.join(networks)})",
        parameters=sum(card.parameters for card in cards),
        train_seconds=sum(card.train_seconds for card in cards),
        weights="; ".join(dict.fromkeys(card.weights for card in cards)),
        training="; ".join(dict.fromkeys(card.training for card in cards)),
        temperature=1.0,  # each run has its own
        members=len(cards),
        notes=tuple(dict.fromkeys(note for card in cards for note in card.notes)),
        view_share=max(card.view_share for card in cards),
        dead_units=None,
    )


def _overlap(runs: Sequence[Run], data: Prepared, rows: np.ndarray) -> Overlap:
    """What the images share with those that any member learned from."""
    learned = {run.full_name: run_directory.read_learned(run) for run in runs}
    known = [one for one in learned.values() if one is not None]
    unknown = tuple(name for name, one in learned.items() if one is None)
    if not known:
        return Overlap(images=len(rows), unknown=unknown)
    union = functools.reduce(lambda first, second: first.joined(second, ""), known)
    union = dataclasses.replace(union, unknown=(*union.unknown, *unknown))
    return count_overlap(union, data, rows, "")
