"""The model card of an exported or published run, as Markdown.

It is made of the run's report. A run with a card of its own, such as the shipped one, keeps it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import jax

import fer_jax
from fer_jax.export import card
from fer_jax.inference.network import Network
from fer_jax.run_dir import Run

FILE = "README.md"

_TEMPLATE = Path(__file__).with_suffix(".md")
_OF_FOLDER = re.compile(r"^## (Rights|Load it)$", re.MULTILINE)
"""Sections of a run's own card, at its end, that are about the files beside it."""

_NO_REPORT = "The run has no report: it was not evaluated."


def text(network: Network) -> str:
    """Returns the card, without its rights; it ends with a newline."""
    run = network.run
    try:
        own = (run.folder / FILE).read_text(encoding="utf-8")
        return _OF_FOLDER.split(own[max(own.find("# Model card"), 0) :])[0].rstrip() + "\n"
    except OSError:
        pass
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=_cell(run.name),
        version=fer_jax.__version__,
        network=_table(_network(network)),
        figures=figures(read_report(run)),
    )


def read_report(run: Run) -> dict[str, Any]:
    """Returns the run's report; empty if there is none that can be read."""
    try:
        stored = json.loads((run.report / "report.json").read_text(encoding="utf-8"))
        return stored if isinstance(stored, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def figures(report: Mapping[str, Any]) -> str:
    """Returns the scores of a report with their intervals, and those of each class."""
    try:
        between, about = report["intervals"], report["card"]
        scores = [
            (name.replace("_", " "), f"{value:.4f}", _ends(between[name]))
            for name, value in (
                ("accuracy", report["accuracy"]),
                ("balanced_accuracy", report["balanced_accuracy"]),
                ("macro_f1", report["macro"]["f1"]),
            )
        ]
        classes = [
            (_cell(name), f"{one['support']:,}", f"{one['recall']:.3f}", f"{one['precision']:.3f}")
            for name, one in report["classes"].items()
        ]
        warnings = [f"- {line}" for line in report["warnings"]] or ["None."]
        evaluated = f"{report['count']:,} images of {about['dataset']}, split {about['split']}."
        lines = [
            f"{evaluated} Intervals: {between['method']}.", "",
            "| | | 95 % interval |", "|---|---|---|", _table(scores), "",
            "| class | images | recall | precision |", "|---|---|---|---|", _table(classes), "",
            "Warnings of the report:", "", *warnings,
        ]  # fmt: skip
        return "\n".join(lines)
    except (KeyError, TypeError, AttributeError):
        return _NO_REPORT


def _network(network: Network) -> list[tuple[str, str]]:
    run, about = network.run, card.card(network)
    count = sum(leaf.size for leaf in jax.tree.leaves(network.variables["params"]))
    size = run.preprocessing.size
    rows = [
        ("network", f"{about['network']}, {count:,} parameters"),
        ("input", f"one face, {size} x {size} pixels, RGB"),
        ("classes", ", ".join(run.labels)),
        ("trained on", str(about["trained_on"])),
        ("protocol", str(about["protocol"])),
        ("initial weights", str((run.weights or {}).get("source", "random"))),
        ("training", f"best at step {network.step:,}, seed {about['seed']}"),
        ("views", str(about["views"])),
    ]
    return [(name, _cell(value)) for name, value in rows if value]


def _table(rows: list[Any]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cell(value: str) -> str:
    """Escapes what would end a table's cell or begin HTML."""
    return value.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _ends(interval: Any) -> str:
    return "" if not interval or None in interval else f"{interval[0]:.4f} to {interval[1]:.4f}"
