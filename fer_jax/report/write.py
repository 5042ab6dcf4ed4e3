"""Writes the report of an evaluation into a folder.

    index.html                the report as one self-contained page
    report.txt                the text report
    report.md                 the text report with the plots
    report.json               all scores and the card, for programs
    predictions.csv           predictions of each image
    heads.csv                 those of action units, and of valence and arousal, with their labels
    confusion_matrix.png, reliability.png, coverage.png, learning_curves.png,
    emotion_analysis_1.png, ...

Each file is written atomically.
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
from fer_jax.report import head_answers, page, plots, png, tables
from fer_jax.report.card import ReportCard
from fer_jax.report.examples import round_robin
from fer_jax.report.intervals import CONFIDENCE_LEVEL, Interval
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import CALIBRATION_BINS, Abstention, Scores, score
from fer_jax.report.slices import Slice, slice_scores

_CURVES = "learning_curves"
_SAMPLE = "emotion_analysis_"


@dataclasses.dataclass(frozen=True, eq=False)
class ReportPaths:
    """Paths of a report, its plots and scores.

    Attributes:
      folder: folder of the report.
      page: index.html.
      text: report.txt.
      json: report.json.
      markdown: report.md.
      predictions: predictions.csv.
      plot_paths: PNG files in the order of the report.
      plots: the plots as uint8[H, W, 3], by file stem.
      scores: the scores.
    """

    folder: Path
    page: Path
    text: Path
    json: Path
    markdown: Path
    predictions: Path
    plot_paths: tuple[Path, ...]
    plots: Mapping[str, np.ndarray]
    scores: Scores


def write_report(
    folder: Path,
    predictions: Predictions,
    images: page.Images,
    card: ReportCard,
    history: Path | None = None,
    samples: int = 6,
    attributes: Mapping[str, Sequence[str] | np.ndarray] | None = None,
    details: Mapping[str, page.Rows] | None = None,
    explain: page.Explain | None = None,
) -> ReportPaths:
    """Scores the predictions and writes all files; replaces an older report.

    Args:
      folder: created if missing.
      predictions: predictions of N images.
      images: uint8[N, H, W, 3] RGB in the order of the predictions.
      card: what was evaluated.
      history: the run's metrics.jsonl, for the learning curves; omitted if it does not exist.
      samples: number of `emotion_analysis` plots.
      attributes: N values by attribute name, such as view or sex; see `slices.slice_scores`.
      details: further tables of the page by heading.
      explain: returns heat maps for the examples of the page.

    Raises:
      UserError: the images do not match the predictions, or the folder cannot be written.
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[0] != len(predictions) or shape[-1] != 3:
        raise UserError(
            f"expected images of shape ({len(predictions)}, height, width, 3), found "
            f"{shape}; pass the evaluated images in the order of the predictions"
        )
    scores = score(predictions, card.temperature, card.abstain)
    slices = slice_scores(predictions, attributes or {})
    rows = files.read_json_lines(history) if history is not None and history.exists() else []
    arrays = _draw(scores, predictions, images, card, rows, samples)
    plot_paths = tuple(
        files.write_bytes(folder / f"{name}.png", png.encode(array))
        for name, array in arrays.items()
    )
    _remove_stale(folder, arrays)
    if predictions.heads is None:
        (folder / head_answers.FILE).unlink(missing_ok=True)
    else:
        predictions.heads.save(folder / head_answers.FILE, predictions.ids)
    document = json.dumps(as_json(scores, card, slices), indent=2, allow_nan=False) + "\n"
    return ReportPaths(
        folder=folder,
        page=page.write_page(
            folder / "index.html", predictions, images, scores, card, rows, slices, details, explain
        ),
        text=files.write_text(folder / "report.txt", tables.report_text(scores, card)),
        json=files.write_text(folder / "report.json", document),
        markdown=files.write_text(folder / "report.md", _markdown(scores, card, plot_paths)),
        predictions=predictions.save(folder / "predictions.csv"),
        plot_paths=plot_paths,
        plots=arrays,
        scores=scores,
    )


def choose_samples(predictions: Predictions, count: int) -> list[int]:
    """Chooses rows to show: half correct and half wrong, the correct ones first.

    Each half is a round robin over the classes, so that the choice is not cherry-picked. Classes
    among the correct ones come last among the wrong ones. If one half has too few images, the
    other one is longer.
    """
    correct = predictions.predicted == predictions.labels
    right = round_robin(predictions.labels, np.flatnonzero(correct))
    first_right = right[: (count + 1) // 2]
    shown = {int(predictions.labels[row]) for row in first_right}
    wrong = round_robin(predictions.labels, np.flatnonzero(~correct), last=shown)
    wrong = wrong[: count - len(first_right)]
    return right[: count - len(wrong)] + wrong


def as_json(
    scores: Scores, card: ReportCard, slices: Mapping[str, Sequence[Slice]] | None = None
) -> dict[str, Any]:
    """Returns the scores and the card as JSON values."""
    columns = zip(
        scores.label_names, scores.precision, scores.recall, scores.f1, scores.support, strict=True
    )
    return {
        "warnings": [*card.warnings, *scores.warnings],
        "card": dataclasses.asdict(card),
        "count": scores.count,
        "accuracy": scores.accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro": dataclasses.asdict(scores.macro),
        "weighted": dataclasses.asdict(scores.weighted),
        "chance": scores.chance,
        "calibration_error": {
            "value": scores.calibration_error,
            "bins": CALIBRATION_BINS,
            "uncalibrated": scores.uncalibrated_error,
        },
        **({"heads": scores.heads.to_json()} if scores.heads else {}),
        "votes": None if scores.votes is None else dataclasses.asdict(scores.votes),
        "intervals": {
            "level": CONFIDENCE_LEVEL,
            "method": scores.interval_method,
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
        "coverage": {
            name: values.tolist() for name, values in dataclasses.asdict(scores.coverage).items()
        },
        "abstention": _abstention(scores.abstention),
        "slices": {
            name: [dataclasses.asdict(part) for part in parts]
            for name, parts in (slices or {}).items()
        },
    }


def _draw(
    scores: Scores,
    predictions: Predictions,
    images: page.Images,
    card: ReportCard,
    history: Sequence[Mapping[str, Any]],
    samples: int,
) -> dict[str, np.ndarray]:
    """Draws the plots, by file stem."""
    # Plots are shared without the report, so their titles repeat the warnings.
    marks = ", ".join(warning.split(":")[0] for warning in (*card.warnings, *scores.warnings))
    title = f"{marks}\n{card.run}: {card.dataset}".lstrip()
    arrays = {
        "confusion_matrix": plots.confusion_matrix(
            scores.confusion, scores.label_names, f"{title}, {card.split}"
        ),
        "reliability": plots.reliability(scores, f"{title}, {card.split}"),
        "coverage": plots.coverage(scores, f"{title}, {card.split}"),
    }
    if history:
        arrays[_CURVES] = plots.learning_curves(history, title)
    for number, row in enumerate(choose_samples(predictions, samples), start=1):
        arrays[f"{_SAMPLE}{number}"] = plots.emotion_analysis(
            images[row],
            predictions.probabilities[row],
            predictions.label_names,
            int(predictions.labels[row]),
            f"{marks}\n{predictions.ids[row]}".lstrip(),
        )
    return arrays


def _remove_stale(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Deletes plots of an earlier report that this one does not have."""
    for path in [*folder.glob(f"{_SAMPLE}*.png"), folder / f"{_CURVES}.png"]:
        if path.stem not in arrays:
            path.unlink(missing_ok=True)


def _markdown(scores: Scores, card: ReportCard, plot_paths: tuple[Path, ...]) -> str:
    heading = f"# {card.run}: {card.dataset}, {card.split}\n"
    warnings = [f"> **{warning}**\n" for warning in (*card.warnings, *scores.warnings)]
    blocks = (
        tables.summary(scores, card),
        tables.classification_report(scores),
        tables.confusion_text(scores),
        *([tables.head_text(scores.heads)] if scores.heads else []),
    )
    fenced = [f"```text\n{block}```\n" for block in blocks]
    links = [f"![{path.stem.replace('_', ' ')}]({path.name})\n" for path in plot_paths]
    return "\n".join([heading, *warnings, *fenced, *links])


def _abstention(one: Abstention | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {**dataclasses.asdict(one), "accuracy_interval": _ends(one.accuracy_interval)}


def _ends(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval else None
