"""The report as a self-contained HTML page, index.html.

Figures are inline SVG in the colors of the page (light, dark, print), images are data URLs. Jinja
escapes names from data sets and files.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import jinja2
import markupsafe
import numpy as np

from fer_jax import files
from fer_jax.report import plots, png, svg, tables
from fer_jax.report.card import ReportCard
from fer_jax.report.examples import round_robin
from fer_jax.report.head_scores import HeadScores
from fer_jax.report.intervals import CONFIDENCE_LEVEL, Interval
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import CALIBRATION_BINS, Scores
from fer_jax.report.slices import Slice

EXAMPLES = 8
"""Number of correct examples, and of wrong ones."""

_MAX_SIDE = 192  # pixels; larger images only increase the file size

Rows = Sequence[tuple[str, str]]

Explain = Callable[[Sequence[int]], Sequence[np.ndarray]]
"""Returns the images of some rows with a Grad-CAM heat map, uint8[H, W, 3] each."""


class Images(Protocol):
    """N images: an array uint8[N, H, W, 3], or an object that decodes them on access."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)."""

    def __getitem__(self, row: int, /) -> np.ndarray:
        """uint8[H, W, 3], RGB."""


@dataclasses.dataclass(frozen=True)
class Example:
    """An image and its prediction, for the template.

    Attributes:
      id: record id.
      source: data URL of the image.
      true: true class.
      predicted: predicted class.
      bars: class names and probabilities.
      heatmap: data URL of the Grad-CAM heat map, or "".
    """

    id: str
    source: str
    true: str
    predicted: str
    bars: tuple[tuple[str, float], ...]
    heatmap: str = ""

    @property
    def is_correct(self) -> bool:
        """Whether the prediction is correct."""
        return self.true == self.predicted


def write_page(
    path: Path,
    predictions: Predictions,
    images: Images,
    scores: Scores,
    card: ReportCard,
    history: Sequence[Mapping[str, Any]] = (),
    slices: Mapping[str, Sequence[Slice]] | None = None,
    details: Mapping[str, Rows] | None = None,
    explain: Explain | None = None,
) -> Path:
    """Writes the page.

    Args:
      path: the file.
      predictions: predictions of N images.
      images: uint8[N, H, W, 3] RGB.
      scores: scores of the predictions.
      card: what was evaluated.
      history: rows of metrics.jsonl; no learning curves if empty.
      slices: scores by attribute.
      details: further tables of names and values, by heading.
      explain: returns heat maps for the examples; None omits them.
    """
    best, worst = choose_best(predictions, EXAMPLES), choose_worst(predictions, EXAMPLES)
    rows = [*best, *worst]
    heatmaps = dict(zip(rows, explain(rows), strict=True)) if explain else {}
    content = {
        "card": card,
        "scores": scores,
        "headline": _headline(scores),
        "classes": _classes(scores),
        "confusion": _confusion(scores),
        "figures": _figures(scores, history),
        **_heads(scores.heads),
        "slices": slices or {},
        "best": [_example(predictions, images, row, heatmaps.get(row)) for row in best],
        "worst": [_example(predictions, images, row, heatmaps.get(row)) for row in worst],
        "facts": _facts(scores, card),
        "details": details or {},
        "level": f"{CONFIDENCE_LEVEL:.0%}",
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
    return files.write_text(path, template("page.html").render(content))


def template(name: str) -> jinja2.Template:
    """Returns a template of this folder; it escapes what it is given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fer_jax.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def choose_best(predictions: Predictions, count: int) -> list[int]:
    """Returns correct rows, the most confident first, alternating between classes."""
    correct = np.flatnonzero(predictions.predicted == predictions.labels)
    order = np.argsort(-_true_probabilities(predictions)[correct], kind="stable")
    return round_robin(predictions.labels, correct[order])[:count]


def choose_worst(predictions: Predictions, count: int) -> list[int]:
    """Returns wrong rows, the lowest probability of the true class first."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    order = np.argsort(_true_probabilities(predictions)[wrong], kind="stable")
    return [int(row) for row in wrong[order][:count]]


def _true_probabilities(predictions: Predictions) -> np.ndarray:
    """Returns the probability of the true class, float32[N]."""
    return predictions.probabilities[np.arange(len(predictions)), predictions.labels]


def _example(
    predictions: Predictions, images: Images, row: int, heatmap: np.ndarray | None
) -> Example:
    names, probabilities = predictions.label_names, predictions.probabilities[row]
    order = np.argsort(-probabilities, kind="stable")[:4]
    label = int(predictions.labels[row])
    shown = [int(index) for index in order]
    if label not in shown:  # the true class is always shown
        shown[-1] = label
    return Example(
        id=predictions.ids[row],
        source=data_url(images[row]),
        true=names[label],
        predicted=names[int(predictions.predicted[row])],
        bars=tuple((names[index], float(probabilities[index])) for index in shown),
        heatmap="" if heatmap is None else data_url(heatmap),
    )


def data_url(image: np.ndarray) -> str:
    """Encodes uint8[H, W, 3] RGB as a data URL, scaled down to the size on the page."""
    longest = max(image.shape[:2])
    if longest > _MAX_SIDE:
        scale = _MAX_SIDE / longest
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return "data:image/png;base64," + base64.b64encode(png.encode(image)).decode()


def _headline(scores: Scores) -> list[tuple[str, str, str, str]]:
    """Returns name, value, interval and explanation of each headline score."""

    def between(interval: Interval | None, form: str = ".1%") -> str:
        return f"{interval.low:{form}} to {interval.high:{form}}" if interval else "no interval"

    classes = f"{scores.occurring} classes with images"
    return [
        (
            "balanced accuracy (UAR)",
            f"{scores.balanced_accuracy:.1%}",
            between(scores.balanced_accuracy_interval),
            f"mean recall of the {classes}; chance {scores.chance:.1%}",
        ),
        (
            "accuracy",
            f"{scores.accuracy:.1%}",
            between(scores.accuracy_interval),
            f"most frequent class: {scores.support.max() / scores.count:.1%}",
        ),
        (
            "macro F1",
            f"{scores.macro.f1:.3f}",
            between(scores.macro_f1_interval, ".3f"),
            f"mean F1 of the {classes}",
        ),
        (
            "calibration error",
            f"{scores.calibration_error:.3f}",
            f"{CALIBRATION_BINS} bins",
            "expected calibration error (ECE): mean gap between confidence and accuracy",
        ),
    ]


def _classes(scores: Scores) -> list[dict[str, Any]]:
    columns = zip(
        scores.label_names, scores.precision, scores.recall, scores.f1, scores.support, strict=True
    )
    return [
        {"name": name, "precision": p, "recall": r, "f1": f, "support": int(n)}
        for name, p, r, f, n in columns
    ]


def _confusion(scores: Scores) -> list[dict[str, Any]]:
    """Returns the rows of the matrix: class, support, and counts and fractions of the cells."""
    fractions = scores.confusion / np.maximum(scores.support, 1)[:, None]
    return [
        {
            "name": name,
            "support": int(scores.support[row]),
            "cells": [
                {"count": int(count), "fraction": float(fraction), "is_correct": row == column}
                for column, (count, fraction) in enumerate(
                    zip(scores.confusion[row], fractions[row], strict=True)
                )
            ],
        }
        for row, name in enumerate(scores.label_names)
    ]


def _heads(heads: HeadScores | None) -> dict[str, Any]:
    """Returns the scores of further heads with their intervals as text; None for a missing one."""

    def between(interval: Interval | None, digits: int) -> str:
        if interval is None:
            return "none"
        return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"

    content: dict[str, Any] = {"units": None, "affect": None}
    if heads and heads.units:
        content["units"] = {
            "each": [(one, between(one.interval, 2)) for one in heads.units],
            "macro": f"{heads.macro_f1:.3f} ({between(heads.macro_f1_interval, 3)}; always: "
            f"{heads.macro_always:.3f})",
        }
    if heads and heads.dimensions:
        content["affect"] = {
            "each": [(one, between(one.interval, 3)) for one in heads.dimensions],
            "mean": f"{heads.ccc:.3f} ({between(heads.ccc_interval, 3)})",
        }
    return content


def _figures(
    scores: Scores, history: Sequence[Mapping[str, Any]]
) -> list[tuple[str, markupsafe.Markup]]:
    reliability = plots.reliability_figure(scores)
    coverage = plots.coverage_figure(scores)
    figures = [
        ("Calibration", svg.encode(reliability, "reliability", "reliability diagram")),
        ("Coverage", svg.encode(coverage, "coverage", "accuracy of the most confident images")),
    ]
    if history:
        curves = plots.curves_figure(history)
        figures.append(("Learning curves", svg.encode(curves, "curves", "learning curves")))
    # Matplotlib escapes text in its SVG.
    return [(title, markupsafe.Markup(text)) for title, text in figures]


def _facts(scores: Scores, card: ReportCard) -> dict[str, Rows]:
    data = [
        ("data set", " / ".join(part for part in (card.dataset, card.config) if part)),
        ("protocol", card.protocol),
        ("split", f"{card.split}, {scores.count:,} images"),
        ("ids in several splits", f"{card.leaks:,}"),
        ("near-duplicates across splits", f"{card.near_duplicates:,} pairs"),
        *([("learned from", card.overlap.text)] if card.overlap else []),
        ("intervals", scores.interval_note),
        *(("note", note) for note in card.notes),
    ]
    training = [
        ("checkpoint", f"step {card.step:,}, best on validation"),
        ("trained for", tables.duration(card.train_seconds)),
    ]
    run = [
        ("run", tables.run_text(card)),
        ("network", f"{card.model}, {card.parameters:,} parameters"),
        ("initial weights", card.weights),
        *tables.training_rows(card),
        *(training if card.has_checkpoint else []),
        *tables.calibration_rows(scores, card),
        *tables.abstention_rows(scores, card),
    ]
    facts: dict[str, Rows] = {"Data": data, "Run": run}
    if votes := tables.vote_rows(scores):
        facts["Votes of people"] = votes
    return facts
