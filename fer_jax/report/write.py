"""Puts the whole report of one evaluation into a folder.

    index.html                the report for people, one file that opens anywhere
    report.txt                what a terminal shows
    report.md                 the same with the pictures
    report.json               every figure and the card, for programs
    predictions.csv           what was said of each picture
    confusion_matrix.png, reliability.png, learning_curves.png, emotion_analysis_1.png, ...

Each file is written whole or not at all. Nothing is computed here but the choice of
the sample pictures, and nothing is printed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.report import page, plots, png, tables
from fer_jax.report.card import ReportCard
from fer_jax.report.examples import by_turns
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import CALIBRATION_BINS, CONFIDENCE_LEVEL, Interval, Scores, score
from fer_jax.report.slices import Slice, slice_scores

_CURVES = "learning_curves"
_SAMPLE = "emotion_analysis_"


@dataclasses.dataclass(frozen=True, eq=False)
class ReportPaths:
    """Where the parts of a report lie, and what went into them.

    Attributes:
      folder: holds all of the following.
      page: index.html.
      text: report.txt.
      json: report.json.
      markdown: report.md.
      predictions: predictions.csv.
      pictures: the PNGs in the order of the report.
      drawings: the same pictures as uint8[H, W, 3] by file stem, for TensorBoard.
      scores: the figures.
    """

    folder: Path
    page: Path
    text: Path
    json: Path
    markdown: Path
    predictions: Path
    pictures: tuple[Path, ...]
    drawings: Mapping[str, np.ndarray]
    scores: Scores


def write_report(
    folder: Path,
    predictions: Predictions,
    images: page.Pictures,
    card: ReportCard,
    history: Path | None = None,
    samples: int = 6,
    attributes: Mapping[str, Sequence[str] | np.ndarray] | None = None,
    details: Mapping[str, page.Rows] | None = None,
    explain: page.Explain | None = None,
) -> ReportPaths:
    """Scores the predictions and writes all files; those of an older report are replaced.

    Args:
      folder: made if it is missing.
      predictions: of N pictures.
      images: uint8[N, H, W, 3] RGB in the order of the predictions.
      card: what was evaluated.
      history: the run's metrics.jsonl, for the learning curves; they are left out
        where the file does not exist.
      samples: pictures to show with their probabilities.
      attributes: what else is known of the N pictures, such as view or sex, for scores of
        parts; see `slices.slice_scores`.
      details: further tables of the page by heading, such as timing.
      explain: says why, of the page's examples.

    Raises:
      UserError: the images do not match, or the folder cannot be written.
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[0] != len(predictions) or shape[-1] != 3:
        raise UserError(
            f"expected images of shape ({len(predictions)}, height, width, 3), found "
            f"{shape}; pass the pictures that were evaluated, in their order"
        )
    scores = score(predictions)
    slices = slice_scores(predictions, attributes or {})
    rows = files.read_json_lines(history) if history is not None and history.exists() else []
    drawings = _draw(scores, predictions, images, card, rows, samples)
    pictures = tuple(
        files.write_bytes(folder / f"{name}.png", png.encode(drawing))
        for name, drawing in drawings.items()
    )
    _remove_stale(folder, drawings)
    document = json.dumps(as_json(scores, card, slices), indent=2, allow_nan=False) + "\n"
    return ReportPaths(
        folder=folder,
        page=page.write_page(
            folder / "index.html", predictions, images, scores, card, rows, slices, details, explain
        ),
        text=files.write_text(folder / "report.txt", tables.report_text(scores, card)),
        json=files.write_text(folder / "report.json", document),
        markdown=files.write_text(folder / "report.md", _markdown(scores, card, pictures)),
        predictions=predictions.save(folder / "predictions.csv"),
        pictures=pictures,
        drawings=drawings,
        scores=scores,
    )


def choose_samples(predictions: Predictions, count: int) -> list[int]:
    """Rows to show: half right and half wrong, the right ones first.

    Of each kind the first picture of every true class in turn, classes in index
    order, so that nobody picks the pretty ones; a class already shown as right comes
    last among the wrong. Where one kind has too few pictures the other fills up.
    """
    correct = predictions.predicted == predictions.labels
    right = by_turns(predictions.labels, np.flatnonzero(correct))
    first_right = right[: (count + 1) // 2]
    shown = {int(predictions.labels[row]) for row in first_right}
    wrong = by_turns(predictions.labels, np.flatnonzero(~correct), last=shown)
    wrong = wrong[: count - len(first_right)]
    return right[: count - len(wrong)] + wrong


def as_json(
    scores: Scores, card: ReportCard, slices: Mapping[str, Sequence[Slice]] | None = None
) -> dict[str, Any]:
    """Every figure and the card as plain JSON values."""
    columns = zip(
        scores.label_names, scores.precision, scores.recall, scores.f1, scores.support, strict=True
    )
    return {
        "warnings": list(card.warnings),
        "card": dataclasses.asdict(card),
        "count": scores.count,
        "accuracy": scores.accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro": dataclasses.asdict(scores.macro),
        "weighted": dataclasses.asdict(scores.weighted),
        "calibration_error": {"value": scores.calibration_error, "bins": CALIBRATION_BINS},
        "intervals": {
            "level": CONFIDENCE_LEVEL,
            "method": scores.accuracy_interval.method,
            "accuracy": _ends(scores.accuracy_interval),
            "balanced_accuracy": _ends(scores.balanced_accuracy_interval),
            "macro_f1": _ends(scores.macro_f1_interval),
        },
        "classes": {
            name: {
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "support": int(support),
            }
            for name, precision, recall, f1, support in columns
        },
        "label_names": list(scores.label_names),
        "confusion": scores.confusion.tolist(),
        "reliability": {
            name: values.tolist() for name, values in dataclasses.asdict(scores.reliability).items()
        },
        "slices": {
            name: [dataclasses.asdict(part) for part in parts]
            for name, parts in (slices or {}).items()
        },
    }


def _draw(
    scores: Scores,
    predictions: Predictions,
    images: page.Pictures,
    card: ReportCard,
    history: Sequence[Mapping[str, Any]],
    samples: int,
) -> dict[str, np.ndarray]:
    """The pictures by file stem; those of a doubtful report say so in their titles."""
    # A picture leaves its report: "STAND-IN" has to go with it.
    doubt = ", ".join(warning.split(":")[0] for warning in card.warnings)
    title = f"{doubt}\n{card.run}: {card.dataset}".lstrip()
    drawings = {
        "confusion_matrix": plots.confusion_matrix(
            scores.confusion, scores.label_names, f"{title}, {card.split}"
        ),
        "reliability": plots.reliability(scores, f"{title}, {card.split}"),
    }
    if history:
        drawings[_CURVES] = plots.learning_curves(history, title)
    for number, row in enumerate(choose_samples(predictions, samples), start=1):
        drawings[f"{_SAMPLE}{number}"] = plots.emotion_analysis(
            images[row],
            predictions.probabilities[row],
            predictions.label_names,
            int(predictions.labels[row]),
            f"{doubt}\n{predictions.ids[row]}".lstrip(),
        )
    return drawings


def _remove_stale(folder: Path, drawings: Mapping[str, np.ndarray]) -> None:
    """An earlier report of more pictures would leave some that are not of this one."""
    for path in [*folder.glob(f"{_SAMPLE}*.png"), folder / f"{_CURVES}.png"]:
        if path.stem not in drawings:
            path.unlink(missing_ok=True)


def _markdown(scores: Scores, card: ReportCard, pictures: tuple[Path, ...]) -> str:
    heading = f"# {card.run}: {card.dataset}, {card.split}\n"
    warnings = [f"> **{warning}**\n" for warning in card.warnings]
    blocks = (
        tables.summary(scores, card),
        tables.classification_report(scores),
        tables.confusion_text(scores),
    )
    fenced = [f"```text\n{block}```\n" for block in blocks]
    links = [f"![{path.stem.replace('_', ' ')}]({path.name})\n" for path in pictures]
    return "\n".join([heading, *warnings, *fenced, *links])


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]
