"""A picture of what was measured: how many times as fast as the best peer fer_jax is.

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

OURS, BEHIND = "#1f77b4", "#c7c7c7"


def bars(tasks: Mapping[str, table.Task]) -> list[tuple[str, str, float]]:
    """Task with its precision, best peer, and the ratio; only where both were measured."""
    found = []
    for name, task in tasks.items():
        for precision in table.precisions(task):
            ours, peer = (table.best(task, one, precision) for one in (True, False))
            ratio = table.ratio(task, ours, peer)
            if ratio is not None and peer is not None:
                found.append((f"{name}, {precision or 'any precision'}", peer, ratio))
    return found


def draw(tasks: Mapping[str, table.Task], path: Path) -> None:
    """A bar for each; the format is that of the file's name.

    Raises:
      ValueError: nothing has both us and a peer.
    """
    found = bars(tasks)
    if not found:
        raise ValueError("expected tasks that fer_jax and a peer both did, found none")
    mpl.rcParams["svg.hashsalt"] = "speed"  # the same file from the same figures
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.34 * len(found)), layout="constrained")
    labels, peers, ratios = zip(*found, strict=True)
    colours = [OURS if ratio >= 1 else BEHIND for ratio in ratios]
    drawn = axes.barh(range(len(found)), ratios, color=colours)
    marks = [f"{ratio:.2f} of {peer}" for ratio, peer in zip(ratios, peers, strict=True)]
    axes.axvline(1, color="black", linewidth=1)
    for mark in axes.bar_label(drawn, marks, padding=4, fontsize=8):
        mark.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # over the line
    axes.set_yticks(range(len(found)), labels, fontsize=8)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlim(0, 1.6 * max(1.0, *ratios))
    axes.set_xlabel("images per second, as a multiple of the best peer's")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main() -> None:
    """Draws the results of a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", nargs="?", type=Path, default=Path("runs/speed/speed.json"))
    parser.add_argument("picture", nargs="?", type=Path, default=Path("runs/speed/speed.svg"))
    options = parser.parse_args()
    draw(table.read(options.results), options.picture)


if __name__ == "__main__":
    with errors.exit_cleanly():
        main()
