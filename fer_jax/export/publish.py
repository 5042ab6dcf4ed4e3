"""Writes a run as a folder in the form of the Hugging Face Hub, or pushes that folder there.

`fer_jax.published` says what is in it and reads it. Nothing of the training images goes: no
examples, no record ids, no digests; and no path of this machine.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fer_jax import files, published, run_dir
from fer_jax.errors import UserError
from fer_jax.export import card, export_run, model_card
from fer_jax.inference.network import Network
from fer_jax.run_dir import Run
from fer_jax.runtime import sharding
from fer_jax.training import packed
from fer_jax.training.restore import Trained, load_trained

MODEL = "model.onnx"

_REPORT = ("report.json", "confusion_matrix.png", "reliability.png", "learning_curves.png")
"""Files of the report without an image of a data set."""

_STALE = ["calibration.json", "report/*"]
"""Files that an earlier push may have left on the Hub and that this one need not have."""


def publish(run: Run, folder: Path, name: str, license_id: str) -> dict[str, dict[str, Any]]:
    """Writes the folder.

    Args:
      run: a trained run.
      folder: new or empty.
      name: how `fer_jax.load` is given the run, for the card.
      license_id: of the weights, an identifier of the Hub.

    Returns:
      Size and SHA-256 by file name.

    Raises:
      UserError: no checkpoint, a missing package, or a network that ONNX cannot express.
      ParityError: the ONNX file differs from the run.
    """
    trained = load_trained(run, sharding.one_device_mesh())
    network = Network(run, trained)
    samples = export_run.noise_samples(run)
    export_run.write_checked(network, "onnx", "float32", folder / MODEL, samples)
    _pack(run, trained, folder)
    metadata = card.metadata(network, "float32")
    inputs = {key: metadata[key] for key in ("labels", "input", "output", "faces")}
    files.write_text(folder / "preprocessing.json", json.dumps(inputs, indent=2) + "\n")
    files.write_text(folder / "labels.json", json.dumps(list(run.labels)) + "\n")
    for source in (run.folder / run_dir.CALIBRATION, *(run.report / file for file in _REPORT)):
        if source.is_file():
            target = folder / source.relative_to(run.folder)
            files.write_bytes(target, source.read_bytes())
    files.write_text(folder / model_card.FILE, readme(network, name, license_id))
    return published.write_manifest(folder)


def _pack(run: Run, trained: Trained, folder: Path) -> None:
    """Writes the run directory: settings and weights."""
    weights = packed.Packed(
        jax.device_get(trained.variables), trained.step, trained.averaged, trained.seconds
    )
    digest = packed.write(folder, weights, run_dir.PUBLISHED_WEIGHTS, np.float32)
    settings = run.settings
    crop = card.exported_framing(run).crop.to_json()
    content = dataclasses.replace(
        run,
        folder=folder,
        settings=dataclasses.replace(
            settings,
            plugins=(),
            data=dataclasses.replace(settings.data, dir=None, manual_dir=None, relabel=None),
            model=dataclasses.replace(
                settings.model, pretrained=Path(settings.model.pretrained).name
            ),
            train=dataclasses.replace(
                settings.train, teacher=tuple(Path(name).name for name in settings.train.teacher)
            ),
        ),
        data={**run.data, **({"crop": crop} if run.data.get("crop") else {})},
        learned="",
        packed=digest,
    )
    stored = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    run_dir.write(content, stored["versions"])


def readme(network: Network, name: str, license_id: str) -> str:
    """Returns the card with the Hub's metadata, how to use the run, and its rights."""
    data = network.run.data["name"]
    metadata = "\n".join(
        f"{key}: {json.dumps(value)}" for key, value in _metadata(network, license_id).items()
    )  # JSON is YAML
    granted = f"The weights are licensed under {license_id}."
    if license_id == "other":
        granted = "No license was stated for the weights: ask whoever published them."
    return f"""---
{metadata}
---

{model_card.text(network)}
## Load it

```python
import fer_jax

model = fer_jax.load({name!r})
```

`model.onnx` needs no fer_jax: `preprocessing.json` says how its input is cropped, and in which
order its classes are.

## Rights

{granted} The rights in the data set, {data}, belong to
others, and its terms may restrict the use of what was trained on it. None of its images is here.
"""


def _metadata(network: Network, license_id: str) -> dict[str, Any]:
    """Returns the YAML header of the Hub's cards as JSON values."""
    data = str(network.run.data["name"])
    found: dict[str, Any] = {"license": license_id}
    if license_id == "other":
        found["license_name"] = "not-stated"
    found |= {
        "library_name": "fer_jax",
        "pipeline_tag": "image-classification",
        "tags": ["facial-expression-recognition", "jax", "flax", "onnx"],
        "datasets": [data.split("/")[0]],
    }
    report = model_card.read_report(network.run)
    try:
        metrics = [
            {"type": kind, "name": name, "value": value}
            for kind, name, value in (
                ("accuracy", "accuracy", report["accuracy"]),
                ("balanced_accuracy", "balanced accuracy", report["balanced_accuracy"]),
                ("f1", "macro F1", report["macro"]["f1"]),
            )
        ]
        about = report["card"]
        dataset = {"name": data, "type": about["dataset"], "split": about["split"]}
    except (KeyError, TypeError):
        return found  # not evaluated
    task = {"type": "image-classification", "name": "facial expressions"}
    result = {"task": task, "dataset": dataset, "metrics": metrics}
    found["metrics"] = [metric["type"] for metric in metrics]
    return {**found, "model-index": [{"name": network.run.name, "results": [result]}]}


def check_folder(folder: Path) -> None:
    """Checks that a run may be published into a folder.

    Raises:
      UserError: it exists and is not empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(
            f"expected a new or empty folder for --to, found {folder} with content; delete it or "
            "choose another"
        )


def push(folder: Path, repository: str) -> str:
    """Pushes a folder to the Hub and returns the address of the commit.

    A repository that does not exist is created, private.

    Raises:
      UserError: huggingface_hub is missing, or the Hub refuses.
    """
    hub = published.import_hub()
    try:
        api = hub.HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, delete_patterns=_STALE,
            commit_message="Publish with fer-jax",
        )  # fmt: skip
    except Exception as error:  # of several packages, without a common class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"expected the Hub to take {repository}, found: {reason}; run `hf auth login` with a "
            "token that may write there, and check the connection"
        ) from error
    return str(commit)
