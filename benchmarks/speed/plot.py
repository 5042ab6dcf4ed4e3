"""Bar chart of fer_jax's speed as a multiple of the best peer's.

python -m benchmarks.speed.plot [runs/speed/speed.json] [runs/speed/speed.svg]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.speed import table
from fer_jax import errors

FASTER, SLOWER = "#1f77b4", "#c7c7c7"


def bars(tasks: Mapping[str, table.Task]) -> list[tuple[str, str, float]]:
    """Returns label, best peer and ratio of each bar; a task without a peer has none."""
    result = []
    for name, task in tasks.items():
        for precision in table.precisions(task):
            ours, peer = (table.best(task, one, precision) for one in (True, False))
            ratio = table.ratio(task, ours, peer)
            if ratio is not None and peer is not None:
                result.append((f"{name}, {precision or 'any precision'}", peer, ratio))
    return result


def draw(tasks: Mapping[str, table.Task], path: Path) -> None:
    """Draws one bar per task and precision; the suffix of `path` selects the format.

    Raises:
      ValueError: no task was measured with both fer_jax and a peer.
    """
    rows = bars(tasks)
    if not rows:
        raise ValueError("expected tasks measured with fer_jax and a peer, found none")
    mpl.rcParams["svg.hashsalt"] = "speed"  # reproducible files
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.34 * len(rows)), layout="constrained")
    labels, peers, ratios = zip(*rows, strict=True)
    colors = [FASTER if ratio >= 1 else SLOWER for ratio in ratios]
    drawn = axes.barh(range(len(rows)), ratios, color=colors)
    marks = [f"{ratio:.2f} of {peer}" for ratio, peer in zip(ratios, peers, strict=True)]
    axes.axvline(1, color="black", linewidth=1)
    for mark in axes.bar_label(drawn, marks, padding=4, fontsize=8):
        mark.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # readable on the line
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.6 * max(1.0, *ratios))
    axes.set_xlabel("images per second, as a multiple of the best peer's")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main() -> None:
    """Draws a results file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", nargs="?", type=Path, default=Path("runs/speed/speed.json"))
    parser.add_argument("plot", nargs="?", type=Path, default=Path("runs/speed/speed.svg"))
    options = parser.parse_args()
    draw(table.read(options.results), options.plot)


if __name__ == "__main__":
    with errors.exit_cleanly():
        main()
