"""The timeline of one person as an image: expression and probability over time, shares beside."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from fer_jax import fonts
from fer_jax.inference.draw import color_of
from fer_jax.inference.timeline import Timeline, Track

_SIZE, _DPI = (11.0, 3.8), 120  # inches; readable at a fifth less
_INK = "#1A1A1A"


def draw(timeline: Timeline, track: Track, title: str) -> np.ndarray:
    """Draws a person of a video.

    Args:
      timeline: of the video.
      track: one of its tracks.
      title: above the plot.

    Returns:
      uint8[H, W, 3] RGB.
    """
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(1.3, 7, 2.6), height_ratios=(1, 2.2))
    face, band, curve = (figure.add_subplot(grid[place]) for place in
                         (np.s_[:, 0], np.s_[0, 1], np.s_[1, 1]))  # fmt: skip
    face.axis("off")
    if track.portrait:
        pixels = cv2.imdecode(np.frombuffer(track.portrait, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert pixels is not None, "expected the portrait to be a JPEG"
        face.imshow(pixels, interpolation="bilinear")
    _draw_band(band, timeline, track)
    _draw_curve(curve, timeline, track)
    _draw_shares(figure.add_subplot(grid[:, 2]), timeline, track)
    figure.suptitle(fonts.drawable(title), fontsize=14)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # names may contain dollar signs
        text.set_fontfamily([fonts.default().family, *_families(timeline.labels, title)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _families(*texts: object) -> list[str]:
    return sorted({font.family for text in texts if (font := fonts.font_for(str(text)))})


def runs(track: Track) -> Iterator[tuple[int, int, int]]:
    """Yields the stretches of bins with one class: the first bin, the one after the last, class."""
    first = last = label = -1
    for index in sorted(track.bins):
        shown = int(track.bins[index][0].argmax())
        if shown != label or index != last:
            if label >= 0:
                yield first, last, label
            first, label = index, shown
        last = index + 1
    if label >= 0:
        yield first, last, label


def _draw_band(axes: Axes, timeline: Timeline, track: Track) -> None:
    for first, last, label in runs(track):
        left, right = first * timeline.width, min(last * timeline.width, timeline.end)
        axes.axvspan(left, right, color=_color(timeline, label), linewidth=0)
    axes.set_xlim(0, timeline.end)
    axes.set_yticks([])
    axes.set_title("expression", fontsize=12, loc="left")
    axes.tick_params(labelbottom=False)


def _draw_curve(axes: Axes, timeline: Timeline, track: Track) -> None:
    """Draws the probability of the shown class; gaps stay empty."""
    count = int(np.ceil(timeline.end / timeline.width))
    values = np.full(count + 1, np.nan)
    for index, content in track.bins.items():
        label = content[0].argmax()
        values[min(index, count)] = content[1, label] / content[0].sum()
    times = (np.arange(count + 1) + 0.5) * timeline.width
    axes.plot(times, values, color="#0072B2", linewidth=1.8)
    axes.set_xlim(0, timeline.end)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_title("its probability", fontsize=12, loc="left")
    axes.set_xlabel("seconds", fontsize=13)
    axes.tick_params(labelsize=12)
    axes.grid(color="#E4E4E4")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_shares(axes: Axes, timeline: Timeline, track: Track) -> None:
    """Draws a bar per class, which is also the legend."""
    names = [fonts.drawable(name[:16]) for name in timeline.labels]
    positions = range(len(names))
    colors = [_color(timeline, index) for index in positions]
    axes.barh(positions, track.shares, color=colors, edgecolor=_INK, linewidth=0.8)
    for position, share in zip(positions, track.shares, strict=True):
        axes.text(share + 0.03, position, f"{100 * share:.0f} %", va="center", fontsize=12)
    axes.set_yticks(positions, names, fontsize=12)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35)
    axes.set_xticks([])
    axes.set_title("share of time", fontsize=12, loc="left")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _color(timeline: Timeline, label: int) -> tuple[float, float, float]:
    red, green, blue = color_of(timeline.labels, label)
    return red / 255, green / 255, blue / 255
