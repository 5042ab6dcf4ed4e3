"""The report as one HTML file that opens anywhere, without a network: index.html.

Everything is inside: figures as SVG in the page's colours (light, dark, print), pictures as
data. Names that come from data sets and files are escaped by Jinja. Nothing is computed here
but the choice of examples.
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
from fer_jax.report.examples import by_turns
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import CALIBRATION_BINS, CONFIDENCE_LEVEL, Interval, Scores
from fer_jax.report.slices import Slice

EXAMPLES = 8
"""Pictures shown as best, and as many as worst."""

_SHOWN_SIDE = 192  # pixels; larger ones only make the file larger

Rows = Sequence[tuple[str, str]]

Explain = Callable[[Sequence[int]], Sequence[np.ndarray]]
"""Row numbers to their pictures coloured by what spoke for the prediction, uint8[H, W, 3]."""


class Pictures(Protocol):
    """N pictures, such as uint8[N, H, W, 3], or what decodes them one by one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)."""

    def __getitem__(self, row: int, /) -> np.ndarray:
        """uint8[H, W, 3], RGB."""


@dataclasses.dataclass(frozen=True)
class Example:
    """A picture of the split with what was said of it; ready for the template."""

    id: str
    source: str
    true: str
    predicted: str
    bars: tuple[tuple[str, float], ...]
    reason: str = ""

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the truth."""
        return self.true == self.predicted


def write_page(
    path: Path,
    predictions: Predictions,
    images: Pictures,
    scores: Scores,
    card: ReportCard,
    history: Sequence[Mapping[str, Any]] = (),
    slices: Mapping[str, Sequence[Slice]] | None = None,
    details: Mapping[str, Rows] | None = None,
    explain: Explain | None = None,
) -> Path:
    """Writes the page.

    Args:
      path: of the file, index.html by custom.
      predictions: of N pictures.
      images: uint8[N, H, W, 3] RGB.
      scores: of the predictions.
      card: what was evaluated.
      history: rows of metrics.jsonl; without any there are no curves.
      slices: scores of parts, by attribute.
      details: further tables of names and values by heading, such as timing.
      explain: says why, of the examples; None leaves it out.
    """
    best, worst = choose_best(predictions, EXAMPLES), choose_worst(predictions, EXAMPLES)
    rows = [*best, *worst]
    reasons = dict(zip(rows, explain(rows), strict=True)) if explain else {}
    content = {
        "card": card,
        "scores": scores,
        "headline": _headline(scores),
        "classes": _classes(scores),
        "confusion": _confusion(scores),
        "figures": _figures(scores, history),
        "slices": slices or {},
        "best": [_example(predictions, images, row, reasons.get(row)) for row in best],
        "worst": [_example(predictions, images, row, reasons.get(row)) for row in worst],
        "facts": _facts(scores, card),
        "details": details or {},
        "level": f"{CONFIDENCE_LEVEL:.0%}",
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fer_jax.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return files.write_text(path, environment.get_template("page.html").render(content))


def choose_best(predictions: Predictions, count: int) -> list[int]:
    """Rows that are right, the surest of each class in turn."""
    right = np.flatnonzero(predictions.predicted == predictions.labels)
    order = np.argsort(-_truth(predictions)[right], kind="stable")
    return by_turns(predictions.labels, right[order])[:count]


def choose_worst(predictions: Predictions, count: int) -> list[int]:
    """Rows that are wrong, those that gave the truth least, whatever their class."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    order = np.argsort(_truth(predictions)[wrong], kind="stable")
    return [int(row) for row in wrong[order][:count]]


def _truth(predictions: Predictions) -> np.ndarray:
    """float32[N], the probability of the true class."""
    return predictions.probabilities[np.arange(len(predictions)), predictions.labels]


def _example(
    predictions: Predictions, images: Pictures, row: int, reason: np.ndarray | None
) -> Example:
    names, probabilities = predictions.label_names, predictions.probabilities[row]
    order = np.argsort(-probabilities, kind="stable")[:4]
    label = int(predictions.labels[row])
    shown = [int(place) for place in order]
    if label not in shown:  # the truth is what a reader looks for
        shown[-1] = label
    return Example(
        id=predictions.ids[row],
        source=picture_source(images[row]),
        true=names[label],
        predicted=names[int(predictions.predicted[row])],
        bars=tuple((names[place], float(probabilities[place])) for place in shown),
        reason="" if reason is None else picture_source(reason),
    )


def picture_source(picture: np.ndarray) -> str:
    """uint8[H, W, 3] RGB as a `data:` address, no larger than needed on a page."""
    longest = max(picture.shape[:2])
    if longest > _SHOWN_SIDE:
        scale = _SHOWN_SIDE / longest
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return "data:image/png;base64," + base64.b64encode(png.encode(picture)).decode()


def _headline(scores: Scores) -> list[tuple[str, str, str, str]]:
    """Name, figure, what stands below it, and an explanation for the pointer."""

    def between(interval: Interval) -> str:
        return f"{interval.low:.1%} to {interval.high:.1%}"

    chance = 1 / len(scores.label_names)
    return [
        (
            "balanced accuracy (UAR)",
            f"{scores.balanced_accuracy:.1%}",
            between(scores.balanced_accuracy_interval),
            f"mean recall of the classes; chance is {chance:.1%}",
        ),
        (
            "accuracy",
            f"{scores.accuracy:.1%}",
            between(scores.accuracy_interval),
            f"always the most frequent class: {scores.support.max() / scores.count:.1%}",
        ),
        (
            "macro F1",
            f"{scores.macro.f1:.3f}",
            f"{scores.macro_f1_interval.low:.3f} to {scores.macro_f1_interval.high:.3f}",
            "mean F1 of the classes, each counting the same",
        ),
        (
            "calibration error",
            f"{scores.calibration_error:.3f}",
            f"{CALIBRATION_BINS} bins",
            "expected calibration error (ECE): how far confidence is from accuracy",
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
    """Rows of the matrix: the class, its support, and its cells' counts and shares."""
    shares = scores.confusion / np.maximum(scores.support, 1)[:, None]
    return [
        {
            "name": name,
            "support": int(scores.support[row]),
            "cells": [
                {"count": int(count), "share": float(share), "is_hit": row == column}
                for column, (count, share) in enumerate(
                    zip(scores.confusion[row], shares[row], strict=True)
                )
            ],
        }
        for row, name in enumerate(scores.label_names)
    ]


def _figures(
    scores: Scores, history: Sequence[Mapping[str, Any]]
) -> list[tuple[str, markupsafe.Markup]]:
    reliability = plots.reliability_figure(scores)
    found = [("Calibration", svg.encode(reliability, "reliability", "reliability diagram"))]
    if history:
        curves = plots.curves_figure(history)
        found.append(("Learning curves", svg.encode(curves, "curves", "learning curves")))
    # matplotlib escapes the texts in its SVG.
    return [(title, markupsafe.Markup(text)) for title, text in found]


def _facts(scores: Scores, card: ReportCard) -> dict[str, Rows]:
    data = [
        ("data set", " / ".join(part for part in (card.dataset, card.config) if part)),
        ("protocol", card.protocol),
        ("split", f"{card.split}, {scores.count:,} pictures"),
        ("ids shared by splits", f"{card.leaks:,}"),
        ("near-duplicates across splits", f"{card.near_duplicates:,} pairs"),
        ("intervals", f"{CONFIDENCE_LEVEL:.0%}, {scores.accuracy_interval.method}"),
        *(("note", note) for note in card.notes),
    ]
    run = [
        ("run", tables.run_text(card)),
        ("network", f"{card.model}, {card.parameters:,} parameters"),
        ("first weights", card.weights),
        ("checkpoint", f"step {card.step:,}, the best on validation"),
        ("trained for", tables.duration(card.train_seconds)),
    ]
    return {"Data": data, "Run": run}
