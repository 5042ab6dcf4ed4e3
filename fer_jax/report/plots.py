"""The pictures of a report, as uint8[H, W, 3] RGB arrays.

One array serves the PNG and TensorBoard. The colours keep their order in grey
and for colour-blind readers; matplotlib's global state (pyplot) is not touched.
Scores are counted elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from fer_jax.report.scores import Scores

# Okabe and Ito's palette, which stays apart for every kind of colour blindness;
# blue is also the darkest of the three in grey.
_BLUE, _ORANGE, _PALE = "#0072B2", "#E69F00", "#B9C4CC"
_INK, _FAINT = "#1A1A1A", "#6B6B6B"
_DPI = 120
_NAME_LENGTH = 24  # longer class names (of people's own folders) are cut
_SMOOTHED_FROM = 60  # points above which the training curve gets a running mean


class Counted(Protocol):
    """What a drawing of a confusion matrix shows; `Scores` has it and more."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """C class names."""

    @property
    def confusion(self) -> np.ndarray:
        """int64[C, C], rows true, columns predicted."""

    @property
    def support(self) -> np.ndarray:
        """int64[C], pictures of each class."""

    @property
    def accuracy(self) -> float:
        """The fraction that is right."""

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have pictures."""


def confusion_matrix(scores: Counted, title: str = "") -> np.ndarray:
    """Rows in per cent of each true class, with the counts below: uint8[H, W, 3]."""
    return _render(confusion_figure(scores, title))


def emotion_analysis(
    image: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    true_label: int | None = None,
    title: str = "",
) -> np.ndarray:
    """The paper's "emotion analysis of a sample image": the picture and a bar per class.

    Args:
      image: uint8[H, W, 3] RGB of any size.
      probabilities: float[C].
      label_names: C names.
      true_label: class index, None where nobody knows it.
      title: e.g. the picture's id.

    Returns:
      uint8[H', W', 3] RGB; the size depends on C only.
    """
    return _render(emotion_figure(image, probabilities, label_names, true_label, title))


def learning_curves(history: Sequence[Mapping[str, Any]], title: str = "") -> np.ndarray:
    """Loss and accuracy over the steps: uint8[H, W, 3].

    Args:
      history: rows of metrics.jsonl: "step" and any of "<split>/loss",
        "<split>/accuracy" (e.g. "train/loss", "validation/accuracy").
      title: above the picture.
    """
    return _render(curves_figure(history, title))


def reliability(scores: Scores, title: str = "") -> np.ndarray:
    """Accuracy against confidence, with how many pictures are how sure: uint8[H, W, 3]."""
    return _render(reliability_figure(scores, title))


def confusion_figure(scores: Counted, title: str = "") -> Figure:
    """The figure behind `confusion_matrix`."""
    classes, names = len(scores.label_names), _shorten(scores.label_names)
    side = max(4.4, 1.9 + 0.72 * classes)
    figure = _figure(max(side + 1.4, 6.4), side)
    axes = figure.add_subplot()
    support = np.maximum(scores.support, 1)[:, None]
    shares = scores.confusion / support
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)  # lightness alone tells the value
    _cell_texts(axes, shares, scores.confusion)
    rows = [f"{name} ({count})" for name, count in zip(names, scores.support, strict=True)]
    axes.set_xticks(range(classes), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), rows)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (pictures)")
    axes.hlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, color="white", linewidth=2)
    axes.vlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, color="white", linewidth=2)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, format=_per_cent)
    bar.outline.set_visible(False)
    bar.set_label("share of the true class")
    figures = f"accuracy {scores.accuracy:.1%}, balanced {scores.balanced_accuracy:.1%}"
    axes.set_title(f"{_cut_lines(title, 50)}\n{figures}".lstrip(), fontsize=11, pad=10)
    return _plain_text(figure)


def emotion_figure(
    image: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    true_label: int | None = None,
    title: str = "",
) -> Figure:
    """The figure behind `emotion_analysis`."""
    names = _shorten(label_names)
    height = max(3.6, 1.5 + 0.36 * len(names))
    figure = _figure(8.6, height)
    picture, bars = figure.subplots(1, 2, width_ratios=(1, 1.45))
    picture.imshow(image, interpolation="bicubic")
    picture.set_xticks([])
    picture.set_yticks([])
    picture.spines[:].set_visible(False)
    picture.set_xlabel(_cut_lines(title, 40), fontsize=9, color=_FAINT)
    _bars(bars, probabilities, names, true_label)
    predicted = int(np.argmax(probabilities))
    verdict = f"predicted: {names[predicted]}"
    if true_label is not None:
        verdict += f"     true: {names[true_label]}"
        verdict += "  (right)" if predicted == true_label else "  (wrong)"
    figure.suptitle(verdict, fontsize=11)
    return _plain_text(figure)


def curves_figure(history: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """The figure behind `learning_curves`."""
    figure = _figure(9.6, 3.9)
    panels = zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True)
    for axes, quantity in panels:
        for style, (split, steps, values) in enumerate(_curves(history, quantity)):
            _curve(axes, steps, values, split, style)
            if quantity == "accuracy" and split != "train":
                _mark_best(axes, steps, values)
        if quantity == "accuracy":
            axes.set_ylim(0, 1.02)
        axes.set_xlabel("step")
        axes.set_title(quantity, fontsize=11)
        axes.grid(color="#E4E4E4", linewidth=0.8)
        _open_frame(axes)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=9)
    if title:
        figure.suptitle(_cut_lines(title, 90), fontsize=11)
    return _plain_text(figure)


def reliability_figure(scores: Scores, title: str = "") -> Figure:
    """The figure behind `reliability`."""
    figure = _figure(5.4, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    bins = scores.reliability
    edges = np.linspace(0, 1, len(bins.count) + 1)
    filled = bins.count > 0
    centres, width = (edges[:-1] + edges[1:])[filled] / 2, edges[1] * 0.92
    above.bar(centres, bins.accuracy[filled], width, color=_BLUE, label="accuracy")
    above.plot([0, 1], [0, 1], "--", color=_FAINT, linewidth=1.2, label="as sure as right")
    above.plot(
        bins.confidence[filled], bins.accuracy[filled], "o", color=_ORANGE, markersize=5,
        label="mean confidence of the bin",
    )  # fmt: skip
    above.set_ylim(0, 1.02)
    above.set_ylabel("fraction that is right")
    above.legend(frameon=False, fontsize=9, loc="upper left")
    below.bar(centres, bins.count[filled], width, color=_PALE)
    below.set_ylabel("pictures")
    below.set_xlim(0, 1)
    below.set_xlabel("confidence (probability of the predicted class)")
    for axes in (above, below):
        _open_frame(axes)
    text = f"{title}\nexpected calibration error {bins.error:.3f}".lstrip()
    above.set_title(_cut_lines(text, 60), fontsize=11)
    return _plain_text(figure)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches whose layout keeps all text inside."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout=layout)


def _cell_texts(axes: Axes, shares: np.ndarray, counts: np.ndarray) -> None:
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else _INK  # where Blues turns darker than mid grey
        options: dict[str, Any] = {"ha": "center", "color": colour}
        axes.text(column, row - 0.02, f"{100 * share:.0f}%", va="bottom", fontsize=11, **options)
        axes.text(column, row + 0.08, f"{counts[row, column]}", va="top", fontsize=8, **options)


def _bars(
    axes: Axes, probabilities: np.ndarray, names: Sequence[str], true_label: int | None
) -> None:
    """A horizontal bar per class: the predicted one dark, the true one named and bold."""
    predicted, places = int(np.argmax(probabilities)), np.arange(len(names))
    colours = [_BLUE if place == predicted else _PALE for place in places]
    axes.barh(places, probabilities, color=colours, height=min(0.72, 0.16 * len(names)))
    for place, value in enumerate(probabilities):
        text = f"{value:.1%}" + ("  true" if place == true_label else "")
        weight = "bold" if place in (predicted, true_label) else "normal"
        axes.text(value + 0.015, place, text, va="center", fontsize=9, weight=weight)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3)  # room for "100.0%  true" beyond a full bar
    axes.set_xticks(np.linspace(0, 1, 5))
    axes.xaxis.set_major_formatter(_per_cent)
    axes.set_xlabel("probability", x=0.5 / 1.3)
    axes.tick_params(axis="y", length=0)
    _open_frame(axes)
    axes.spines["bottom"].set_bounds(0, 1)


def _curves(
    history: Sequence[Mapping[str, Any]], quantity: str
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The splits that have `quantity`, "train" first, with their steps and values."""
    points: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        for key, value in row.items():
            split, _, name = key.rpartition("/")
            if split and name == quantity and value is not None:
                points.setdefault(split, []).append((row["step"], value))
    splits = sorted(points, key=lambda split: (split != "train", split))
    return [(split, *np.array(points[split], float).T) for split in splits]


def _curve(axes: Axes, steps: np.ndarray, values: np.ndarray, split: str, style: int) -> None:
    colour = (_BLUE, _ORANGE, _INK)[style % 3]
    dashes = ("-", "--", ":")[style % 3]
    marker = "o" if len(steps) <= 40 else ""
    if len(steps) > _SMOOTHED_FROM:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        values, split = _running_mean(values), f"{split} (running mean)"
    axes.plot(
        steps, values, dashes, color=colour, marker=marker, markersize=3.5, linewidth=1.8,
        label=split,
    )  # fmt: skip


def _mark_best(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    best = int(np.argmax(values))
    axes.plot(
        steps[best], values[best], "*", color=_INK, markersize=11, linestyle="none",
        label=f"best {values[best]:.3f} at step {steps[best]:.0f}",
    )  # fmt: skip


def _running_mean(values: np.ndarray) -> np.ndarray:
    """A centred mean over a twentieth of the curve; the window shrinks at both ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0], np.cumsum(values)])
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))
    return (sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1)


def _open_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _per_cent(value: float, _position: float = 0) -> str:
    return f"{value:.0%}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _cut_lines(text: str, length: int) -> str:
    return "\n".join(_cut(line, length) for line in text.splitlines())


def _shorten(names: Sequence[str]) -> list[str]:
    return [_cut(name, _NAME_LENGTH) for name in names]


def _plain_text(figure: Figure) -> Figure:
    """Names and ids are text: a dollar sign in them is no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def _render(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
