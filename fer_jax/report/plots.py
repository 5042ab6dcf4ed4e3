"""Plots of a report as Matplotlib figures, or as uint8[H, W, 3] RGB arrays.

The arrays go into PNG files and TensorBoard. The colors stay distinct in grayscale and for
color-blind readers. Matplotlib's global state (pyplot) is not touched. Scores are computed in
`scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from fer_jax import fonts
from fer_jax.report.scores import Scores, accuracy, balanced_accuracy

# Palette of Okabe and Ito, distinguishable with every kind of color blindness; blue is also
# the darkest of the three in grayscale.
_BLUE, _ORANGE, _PALE = "#0072B2", "#E69F00", "#B9C4CC"
_INK, _FAINT = "#1A1A1A", "#6B6B6B"
_DPI = 120
_NAME_LENGTH = 24  # longer class names (of a user's folders) are truncated
_LARGEST = 1e30  # what a damaged file has above is not drawn
_SMOOTHED_FROM = 60  # a curve with more points gets a running mean


def confusion_matrix(
    confusion: np.ndarray, label_names: Sequence[str], title: str = ""
) -> np.ndarray:
    """Draws the confusion matrix, in percent of each true class and as counts.

    Args:
      confusion: int64[C, C], rows true, columns predicted.
      label_names: C class names.
      title: above the plot.

    Returns:
      uint8[H, W, 3] RGB.
    """
    return _render(confusion_figure(confusion, label_names, title))


def emotion_analysis(
    image: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    true_label: int | None = None,
    title: str = "",
) -> np.ndarray:
    """Draws the paper's "emotion analysis of a sample image": the image and a bar per class.

    Args:
      image: uint8[H, W, 3] RGB of any size.
      probabilities: float[C].
      label_names: C class names.
      true_label: class index; None if unknown.
      title: below the image, for example its id.

    Returns:
      uint8[H', W', 3] RGB; the size depends on C only.
    """
    return _render(emotion_figure(image, probabilities, label_names, true_label, title))


def learning_curves(history: Sequence[Mapping[str, Any]], title: str = "") -> np.ndarray:
    """Draws loss and accuracy over the steps.

    Args:
      history: rows of metrics.jsonl: "step" and any of "<split>/loss" and "<split>/accuracy",
        for example "train/loss" and "validation/accuracy".
      title: above the plots.

    Returns:
      uint8[H, W, 3] RGB.
    """
    return _render(curves_figure(history, title))


def reliability(scores: Scores, title: str = "") -> np.ndarray:
    """Draws a reliability diagram with a histogram of the confidence: uint8[H, W, 3] RGB."""
    return _render(reliability_figure(scores, title))


def coverage(scores: Scores, title: str = "") -> np.ndarray:
    """Draws the accuracy of the most confident images over their share: uint8[H, W, 3] RGB."""
    return _render(coverage_figure(scores, title))


def confusion_figure(confusion: np.ndarray, label_names: Sequence[str], title: str = "") -> Figure:
    """The figure of `confusion_matrix`."""
    classes, names = len(label_names), _shorten(label_names)
    side = max(4.4, 1.9 + 0.72 * classes)
    figure = _figure(max(side + 1.4, 6.4), side)
    axes = figure.add_subplot()
    support = confusion.sum(axis=1)
    fractions = confusion / np.maximum(support, 1)[:, None]
    heatmap = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)  # readable in grayscale
    _cell_texts(axes, fractions, confusion)
    rows = [f"{name} ({count})" for name, count in zip(names, support, strict=True)]
    axes.set_xticks(range(classes), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), rows)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (images)")
    axes.hlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, color="white", linewidth=2)
    axes.vlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, color="white", linewidth=2)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(heatmap, ax=axes, shrink=0.8, format=_percent)
    bar.outline.set_visible(False)
    bar.set_label("fraction of the true class")
    figures = f"accuracy {accuracy(confusion):.1%}, balanced {balanced_accuracy(confusion):.1%}"
    heading = _truncate_lines(title, 50)
    axes.set_title(f"{heading}\n{figures}".lstrip(), fontsize=11, pad=10)
    return _plain_text(figure, [*names, heading])


def emotion_figure(
    image: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    true_label: int | None = None,
    title: str = "",
) -> Figure:
    """The figure of `emotion_analysis`."""
    names = _shorten(label_names)
    height = max(3.6, 1.5 + 0.36 * len(names))
    figure = _figure(8.6, height)
    face, bars = figure.subplots(1, 2, width_ratios=(1, 1.45))
    face.imshow(image, interpolation="bicubic")
    face.set_xticks([])
    face.set_yticks([])
    face.spines[:].set_visible(False)
    caption = _truncate_lines(title, 40)
    face.set_xlabel(caption, fontsize=9, color=_FAINT)
    _bars(bars, probabilities, names, true_label)
    predicted = int(np.argmax(probabilities))
    verdict = f"predicted: {names[predicted]}"
    if true_label is not None:
        verdict += f"     true: {names[true_label]}"
        verdict += "  (correct)" if predicted == true_label else "  (wrong)"
    figure.suptitle(verdict, fontsize=11)
    return _plain_text(figure, [*names, caption])


def curves_figure(history: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """The figure of `learning_curves`."""
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
        figure.suptitle(heading := _truncate_lines(title, 90), fontsize=11)
        return _plain_text(figure, [heading])
    return _plain_text(figure)


def reliability_figure(scores: Scores, title: str = "") -> Figure:
    """The figure of `reliability`."""
    figure = _figure(5.4, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    bins = scores.reliability
    edges = np.linspace(0, 1, len(bins.count) + 1)
    filled = bins.count > 0
    centers, width = (edges[:-1] + edges[1:])[filled] / 2, edges[1] * 0.92
    above.bar(centers, bins.accuracy[filled], width, color=_BLUE, label="accuracy")
    above.plot([0, 1], [0, 1], "--", color=_FAINT, linewidth=1.2, label="perfect calibration")
    above.plot(
        bins.confidence[filled], bins.accuracy[filled], "o", color=_ORANGE, markersize=5,
        label="mean confidence of the bin",
    )  # fmt: skip
    above.set_ylim(0, 1.02)
    above.set_ylabel("accuracy")
    above.legend(frameon=False, fontsize=9, loc="upper left")
    below.bar(centers, bins.count[filled], width, color=_PALE)
    below.set_ylabel("images")
    below.set_xlim(0, 1)
    below.set_xlabel("confidence (probability of the predicted class)")
    for axes in (above, below):
        _open_frame(axes)
    text = f"{title}\nexpected calibration error {bins.error:.3f}".lstrip()
    above.set_title(heading := _truncate_lines(text, 60), fontsize=11)
    return _plain_text(figure, [heading])


def coverage_figure(scores: Scores, title: str = "") -> Figure:
    """The figure of `coverage`; with an abstaining network its point."""
    figure = _figure(5.4, 4.2)
    axes = figure.add_subplot()
    curve = scores.coverage
    axes.plot(curve.share, curve.accuracy, color=_BLUE, linewidth=1.8, label="accuracy")
    axes.plot(
        curve.share, curve.confidence, "--", color=_ORANGE, linewidth=1.4,
        label="lowest top probability",
    )  # fmt: skip
    point = scores.abstention
    if point is not None and point.accuracy is not None:
        axes.plot(
            point.coverage, point.accuracy, "o", color=_INK, markersize=7,
            label=f"from {point.threshold:g}: {point.accuracy:.1%} of {point.coverage:.1%}",
        )  # fmt: skip
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("coverage (share of the images, most confident first)")
    axes.xaxis.set_major_formatter(_percent)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    _open_frame(axes)
    text = f"{title}\naccuracy of all {scores.accuracy:.1%}".lstrip()
    axes.set_title(heading := _truncate_lines(text, 60), fontsize=11)
    return _plain_text(figure, [heading])


def _figure(width: float, height: float) -> Figure:
    """Returns an empty figure of `width` x `height` inches whose layout fits all text inside."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout=layout)


def _cell_texts(axes: Axes, fractions: np.ndarray, counts: np.ndarray) -> None:
    for (row, column), fraction in np.ndenumerate(fractions):
        color = "white" if fraction > 0.55 else _INK  # above 0.55 Blues is darker than mid-gray
        options: dict[str, Any] = {"ha": "center", "color": color}
        axes.text(column, row - 0.02, f"{100 * fraction:.0f}%", va="bottom", fontsize=11, **options)
        axes.text(column, row + 0.08, f"{counts[row, column]}", va="top", fontsize=8, **options)


def _bars(
    axes: Axes, probabilities: np.ndarray, names: Sequence[str], true_label: int | None
) -> None:
    """Draws a horizontal bar per class: the predicted one dark, the true one labeled in bold."""
    predicted, positions = int(np.argmax(probabilities)), np.arange(len(names))
    colors = [_BLUE if index == predicted else _PALE for index in positions]
    axes.barh(positions, probabilities, color=colors, height=min(0.72, 0.16 * len(names)))
    for index, value in enumerate(probabilities):
        text = f"{value:.1%}" + ("  true" if index == true_label else "")
        weight = "bold" if index in (predicted, true_label) else "normal"
        axes.text(value + 0.015, index, text, va="center", fontsize=9, weight=weight)
    axes.set_yticks(positions, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3)  # leaves room for "100.0%  true" beyond a full bar
    axes.set_xticks(np.linspace(0, 1, 5))
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("probability", x=0.5 / 1.3)
    axes.tick_params(axis="y", length=0)
    _open_frame(axes)
    axes.spines["bottom"].set_bounds(0, 1)


def _curves(
    history: Sequence[Mapping[str, Any]], quantity: str
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Returns the splits with `quantity`, "train" first, with their steps and values."""
    points: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        for key, value in row.items():
            split, _, name = key.rpartition("/")
            if split and name == quantity and _is_number(value) and _is_number(row.get("step")):
                points.setdefault(split, []).append((row["step"], value))
    splits = sorted(points, key=lambda split: (split != "train", split))
    return [(split, *np.array(points[split], float).T) for split in splits]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < _LARGEST


def _curve(axes: Axes, steps: np.ndarray, values: np.ndarray, split: str, style: int) -> None:
    color = (_BLUE, _ORANGE, _INK)[style % 3]
    dashes = ("-", "--", ":")[style % 3]
    marker = "o" if len(steps) <= 40 else ""
    if len(steps) > _SMOOTHED_FROM:
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=1)
        values, split = _running_mean(values), f"{split} (running mean)"
    axes.plot(
        steps, values, dashes, color=color, marker=marker, markersize=3.5, linewidth=1.8,
        label=split,
    )  # fmt: skip


def _mark_best(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    best = int(np.argmax(values))
    axes.plot(
        steps[best], values[best], "*", color=_INK, markersize=11, linestyle="none",
        label=f"best {values[best]:.3f} at step {steps[best]:.0f}",
    )  # fmt: skip


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Returns a centered mean over 1/20 of the curve; the window shrinks at both ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0], np.cumsum(values)])
    centers = np.arange(len(values))
    radius = np.minimum(half, np.minimum(centers, len(values) - 1 - centers))
    return (sums[centers + radius + 1] - sums[centers - radius]) / (2 * radius + 1)


def _open_frame(axes: Axes) -> None:
    """Hides the top and right edges of the frame."""
    axes.spines[["top", "right"]].set_visible(False)


def _percent(value: float, _position: float = 0) -> str:
    return f"{value:.0%}"


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _truncate_lines(text: str, length: int) -> str:
    return "\n".join(fonts.drawable(_truncate(line, length)) for line in text.splitlines())


def _shorten(names: Sequence[str]) -> list[str]:
    return [fonts.drawable(_truncate(name, _NAME_LENGTH)) for name in names]


def _plain_text(figure: Figure, names: Sequence[str] = ()) -> Figure:
    """Disables math mode, because names may contain dollar signs, and sets fonts for `names`."""
    found = {font.family for name in names if (font := fonts.font_for(name)) is not None}
    families = [fonts.default().family, *sorted(found - {fonts.default().family})]
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_fontfamily(families)
    return figure


def _render(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
