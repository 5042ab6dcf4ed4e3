"""What travels with an exported file: classes, preprocessing, and a card for people.

Whoever has only the file can cut faces as the run's data was cut, and knows what its
figures cannot mean.
"""

from __future__ import annotations

import json
from typing import Any

import fer_jax
from fer_jax.export import program
from fer_jax.inference import locate
from fer_jax.inference.network import Network
from fer_jax.run_dir import Run, report_warnings

FORMAT = 1
"""Of the metadata; raised when an older script could not understand it."""


def metadata(network: Network, variant: str) -> dict[str, Any]:
    """Everything that is stored beside the network, as plain JSON values."""
    run = network.run
    size = run.preprocessing.size
    return {
        "format": FORMAT,
        "labels": list(run.labels),
        "input": {
            "name": program.INPUT,
            "type": f"uint8[batch, {size}, {size}, 3]",
            "size": size,
            "channels": "RGB",
            "normalization": "inside the network",
        },
        "output": {
            "name": program.OUTPUT,
            "type": f"float32[batch, {len(run.labels)}]",
        },
        "faces": locate.description(run),
        "variant": variant,
        "card": card(network),
    }


def card(network: Network) -> dict[str, Any]:
    """The model card: where the network is from, how good it is, what to beware of."""
    run = network.run
    return {
        "run": run.name,
        "network": run.config.model.name,
        "step": network.step,
        "seed": run.config.seed,
        "trained_on": run.data["name"],
        "protocol": run.data.get("protocol", ""),
        "warnings": list(report_warnings(run)),
        "figures": _figures(run),
        "preprocessing": run.preprocessing.to_json(),
        "fer_jax": fer_jax.__version__,
        "use": "one face per input, cut and resized as `faces` says; what a face expresses is "
        "not what a person feels",
    }


def _figures(run: Run) -> dict[str, Any]:
    """The figures of the run's report; empty if it has none."""
    try:
        report = json.loads((run.report / "report.json").read_text())
        wanted = ("count", "accuracy", "balanced_accuracy")
        return {"split": report["card"]["split"], **{name: report[name] for name in wanted}}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
