"""Plots: all text is inside the figure, bars have the right values, pyplot is not touched."""

from __future__ import annotations

import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from fer_jax.report import plots, png
from fer_jax.report.predictions import Predictions

EIGHT = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
LONG = ("a$b^{_ of a folder with a very long name", "x" * 60, "a" * 24)
TITLE = "STAND-IN, LEAK, " * 9 + "\n" + "A long run name: " * 9
FACE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)


def make_confusion(names, count=4000):
    """A confusion matrix and its label names."""
    rng = np.random.default_rng(len(names))
    probabilities = rng.dirichlet(np.full(len(names), 0.3), count)
    labels = np.where(
        rng.random(count) < 0.6,
        probabilities.argmax(axis=1),
        rng.integers(0, len(names), count),
    )
    ids = tuple(map(str, range(count)))
    return Predictions(ids, labels, probabilities, ("",) * count, names).confusion(), names


def make_history(steps):
    return [
        {"step": step, "train/loss": 2 / step, "validation/loss": 3 / step,
         "train/accuracy": 1 - 1 / step, "validation/accuracy": 0.8 - 1 / step}
        for step in steps
    ]  # fmt: skip


FIGURES = {
    "confusion 8": lambda: plots.confusion_figure(*make_confusion(EIGHT), "LEAK\nrun: set"),
    "confusion 6, many": lambda: plots.confusion_figure(*make_confusion(EIGHT[:6], 200_000)),
    "confusion long names": lambda: plots.confusion_figure(*make_confusion(LONG), TITLE),
    "emotion 8, confident": lambda: plots.emotion_figure(FACE, np.eye(8)[7], EIGHT, 7, "i$d" * 40),
    "emotion 2": lambda: plots.emotion_figure(FACE, np.array([0.5, 0.5]), EIGHT[:2]),
    "emotion long names": lambda: plots.emotion_figure(FACE, np.eye(3)[0], LONG, 0, "STAND-IN\na"),
    "curves": lambda: plots.curves_figure(make_history(range(10, 900, 10)), TITLE),
    "curves, one step": lambda: plots.curves_figure(make_history([1])),
    "curves, no accuracy": lambda: plots.curves_figure([{"step": 1, "train/loss": 1.0}]),
}


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES.keys())
def test_no_text_is_clipped(make):
    figure = make()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    seen = 0
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text():
            continue
        box = text.get_window_extent(canvas.get_renderer())
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        # Matplotlib creates ticks beyond the axis limits but does not draw them.
        assert inside or not _is_drawn(text, figure), text
        seen += inside
    assert seen > 4


def _is_drawn(text, figure):
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if text in (tick.label1, tick.label2):
                    return low <= tick.get_loc() <= high
    return True


@pytest.mark.parametrize("names", [EIGHT[:6], EIGHT], ids=len)
def test_cell_texts_do_not_overlap(names):
    figure = plots.confusion_figure(*make_confusion(names, 100_000))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = figure.axes[0]
    cell = np.diff(axes.transData.transform([(0, 0), (1, 1)]), axis=0)[0]
    for text in axes.texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert box.width < abs(cell[0])
    ticks = [label.get_window_extent(canvas.get_renderer()) for label in axes.get_yticklabels()]
    for one, other in itertools.pairwise(ticks):
        assert not one.overlaps(other)


def test_confusion_shows_row_percentages_and_counts():
    figure = plots.confusion_figure(np.array([[2, 1], [0, 1]]), ("fear", "anger"))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["67%", "2", "33%", "1", "0%", "0", "100%", "1"]


@pytest.mark.parametrize(
    ("true_label", "title", "marked"),
    [
        (1, "predicted: fear     true: fear  (correct)", "70.0%  true"),
        (0, "predicted: fear     true: anger  (wrong)", "30.0%  true"),
        (None, "predicted: fear", None),
    ],
)
def test_emotion_analysis_names_the_true_and_the_predicted_class(true_label, title, marked):
    figure = plots.emotion_figure(FACE, np.array([0.3, 0.7]), ("anger", "fear"), true_label)
    bars = figure.axes[1]
    assert figure.get_suptitle() == title
    assert [bar.get_width() for bar in bars.patches] == [0.3, 0.7]
    assert [t.get_text() for t in bars.texts if "true" in t.get_text()] == ([marked] * bool(marked))
    darker = [sum(bar.get_facecolor()[:3]) for bar in bars.patches]
    assert darker[1] < darker[0]


def test_emotion_analysis_shows_the_image():
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    drawn = plots.emotion_analysis(red, np.array([0.5, 0.5]), ("anger", "fear"))
    assert drawn.dtype == np.uint8
    assert (drawn[:, : drawn.shape[1] // 3].reshape(-1, 3) == (255, 0, 0)).all(axis=1).mean() > 0.5


def test_curves_find_every_split_and_the_best_step():
    history = [*make_history(range(1, 20)), {"step": 20, "validation/accuracy": None, "x/rate": 1}]
    history[6]["validation/accuracy"] = 0.99
    loss, accuracy = plots.curves_figure(history).axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert [line.get_label() for line in accuracy.lines] == [
        "train", "validation", "best 0.990 at step 7",
    ]  # fmt: skip
    np.testing.assert_array_equal(loss.lines[1].get_xdata(), np.arange(1, 20))


def test_running_mean_keeps_a_straight_line():
    line = np.linspace(3, 9, 200)
    np.testing.assert_allclose(plots._running_mean(line), line)


def test_plots_are_deterministic_and_survive_png():
    first, again = (plots.confusion_matrix(*make_confusion(EIGHT)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    content = np.frombuffer(png.encode(first), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1], first)


def test_import_loads_neither_pyplot_nor_jax():
    code = (
        "import sys, fer_jax.report.write\n"
        "bad = {'matplotlib.pyplot', 'jax', 'tensorflow', 'tensorboard'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
