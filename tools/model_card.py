"""The model card of a shipped run: tools/model_card.md with the figures measured for its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from fer_jax import files, run_dir

CARD = "README.md"
FACTS = "card.json"
"""What `tools.ship_model` measured, beside the report."""

DESCRIBED = (
    "config.json", "run.json", run_dir.WEIGHTS, run_dir.CALIBRATION, FACTS, "report/report.json",
)  # fmt: skip
"""Files that the card belongs to: it contains their digest."""

_TEMPLATE = Path(__file__).with_suffix(".md")
_FEW = 3  # weakest classes
_MISTAKES = 5


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of `DESCRIBED`."""
    found = hashlib.sha256()
    for name in DESCRIBED:
        content = (folder / name).read_bytes()
        found.update(f"{name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def write(folder: Path) -> None:
    """Writes the card of a shipped run."""
    files.write_text(folder / CARD, text(folder))


def text(folder: Path) -> str:
    """Returns the card as Markdown."""
    facts, report, run, config = (
        json.loads((folder / name).read_text())
        for name in (FACTS, "report/report.json", "run.json", "config.json")
    )
    split = facts["split"]
    banner = f"\n\n**Its figures are those of {split}, which chose the checkpoint: too high.**"
    return Template(_TEMPLATE.read_text()).substitute(
        name=folder.name,
        banner="" if split == "test" else banner,
        split=split,
        digest=digest(folder),
        files=", ".join(f"`{name}`" for name in DESCRIBED),
        **_network(facts, report, run, config),
        **_scores(facts, report),
        **_failures(report),
        **_groups(facts["rendered"]),
    )


def _network(
    facts: dict[str, Any], report: dict[str, Any], run: dict[str, Any], config: dict[str, Any]
) -> dict[str, Any]:
    card, images, half = report["card"], facts["images"], facts["float16"]
    votes = config["data"]["targets"] == "votes"
    targets = "the shares of people's votes" if votes else "the majority's label"
    largest, mean = f"{half['largest_difference']:.1g}", f"{half['mean_difference']:.1g}"
    return {
        "network": f"{card['model']}, {card['parameters']:,} parameters",
        "size": run["preprocessing"]["size"],
        "classes": ", ".join(run["labels"]),
        "learned": f"{run['data']['name']}, {images['train']:,} images; targets: {targets}",
        "validation": f"{images['validation']:,}",
        "protocol": run["data"]["protocol"],
        "training": f"{config['train']['epochs']} epochs, best at step {card['step']:,}, seed "
        f"{card['seed']}, {card['train_seconds'] / 3600:.1f} hours",
        "views": card["views"] or "one",
        "weights": f"float16; on {half['images']:,} validation images probabilities differ from "
        f"float32's by up to {largest} (mean {mean}), and {half['same_class']:.2%} have the same "
        f"class",
    }


def _scores(facts: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    between, error = report["intervals"], report["calibration_error"]
    temperature = facts["calibration"]["temperature"]
    before = error["value"] if error["uncalibrated"] is None else error["uncalibrated"]
    rows = [
        ("accuracy", report["accuracy"], between["accuracy"]),
        ("balanced accuracy", report["balanced_accuracy"], between["balanced_accuracy"]),
        ("macro F1", report["macro"]["f1"], between["macro_f1"]),
        (f"calibration error (ECE), temperature {temperature:.4g}", error["value"], None),
        ("ECE without the temperature", before, None),
    ]
    if votes := report["votes"]:
        rows += [
            (f"votes for its class, at most {votes['ceiling']:.4f}", votes["agreement"], None),
            ("divergence from the votes, nats", votes["divergence"], None),
        ]
    return {
        "evaluated": f"{report['count']:,} images of {report['card']['dataset']}",
        "method": between["method"],
        "warnings": "\n".join(f"- {line}" for line in report["warnings"]) or "none",
        "figures": "\n".join(f"| {name} | {value:.4f} | {_ends(ends, 4)} |"
                             for name, value, ends in rows),
        "recalls": "\n".join(
            f"| {name} | {one['support']:,} | {one['recall']:.3f} | {one['precision']:.3f} |"
            for name, one in report["classes"].items()
        ),
    }  # fmt: skip


def _failures(report: dict[str, Any]) -> dict[str, Any]:
    names, classes = report["label_names"], report["classes"]
    weakest = sorted(
        (one["recall"], name, one["support"]) for name, one in classes.items() if one["support"]
    )
    mistakes = sorted(
        (
            (count / sum(row), names[true], names[predicted])
            for true, row in enumerate(report["confusion"])
            for predicted, count in enumerate(row)
            if true != predicted and count
        ),
        reverse=True,
    )
    return {
        "weakest": ", ".join(
            f"{name} (recall {recall:.2f} of {count:,})" for recall, name, count in weakest[:_FEW]
        ),
        "confusions": ", ".join(
            f"{true} read as {predicted} ({share:.0%} of them)"
            for share, true, predicted in mistakes[:_MISTAKES]
        ),
    }


def _groups(measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "rendered": f"{measured['images']:,} rendered photos of {measured['people']} people "
        f"(seven expressions; {measured['found']:,} faces found, accuracy "
        f"{measured['accuracy']:.3f})",
        "groups": "\n".join(
            f"| {name} | {part['value']} | {part['count']:,} | {part['accuracy']:.3f} | "
            f"{_ends((part['low'], part['high']), 3)} |"
            for name, parts in measured["slices"].items()
            for part in parts
        ),
    }


def _ends(interval: Sequence[float | None] | None, digits: int) -> str:
    low, high = interval or (None, None)
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
