"""The metadata of an exported file: labels, input, face cropping and a model card.

With it, a user who has only the file can prepare inputs and knows the limits of its scores.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import fer_jax
from fer_jax.export.run_exported import FORMAT
from fer_jax.faces.detect import HAAR, HAAR_FRONTAL, MTCNN
from fer_jax.faces.framing import Framing
from fer_jax.inference import program
from fer_jax.inference.locate import framing_of
from fer_jax.inference.network import Network
from fer_jax.run_dir import Run, report_warnings
from fer_jax.training import tta


def metadata(network: Network, variant: str) -> dict[str, Any]:
    """Returns the metadata as JSON values."""
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
        **({"heads": program.further_outputs(run)} if run.heads.names else {}),
        "faces": exported_framing(run).to_json(),
        "variant": variant,
        "card": card(network),
    }


def exported_framing(run: Run) -> Framing:
    """Returns the run's framing; a detector that is a file of this machine becomes MTCNN."""
    framing = framing_of(run)
    is_known = framing.detector in (HAAR, HAAR_FRONTAL, MTCNN)
    crop = framing.crop if is_known else dataclasses.replace(framing.crop, detector=MTCNN)
    detector = framing.detector if is_known else MTCNN
    return dataclasses.replace(framing, detector=detector, crop=crop)


def card(network: Network) -> dict[str, Any]:
    """Returns the model card: the network's origin, scores and warnings."""
    run = network.run
    return {
        "run": run.name,
        "network": run.settings.model.name,
        "step": network.step,
        "seed": run.settings.seed,
        "trained_on": run.data["name"],
        "protocol": run.data.get("protocol", ""),
        "warnings": list(report_warnings(run)),
        "figures": _scores(run),
        "views": tta.VIEWS[run.settings.eval.tta],
        "preprocessing": run.preprocessing.to_json(),
        "fer_jax": fer_jax.__version__,
        "use": "one face per input, cropped and resized as described in `faces`; an expression "
        "does not show what a person feels",
    }


def _scores(run: Run) -> dict[str, Any]:
    """Returns the scores of the run's report; empty if there is none."""
    try:
        report = json.loads((run.report / "report.json").read_text())
        names = ("count", "accuracy", "balanced_accuracy")
        return {"split": report["card"]["split"], **{name: report[name] for name in names}}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
