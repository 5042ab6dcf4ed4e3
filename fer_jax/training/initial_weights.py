"""Where a network's first weights come from: chance, a ported file, or another run.

A ported file gives the backbone; another run gives everything but the classifier, which
is kept too where the classes are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
from jax.sharding import Mesh
from ml_collections import ConfigDict

from fer_jax import run_dir as run_directory
from fer_jax.data.preprocess import InputFormat
from fer_jax.errors import UserError
from fer_jax.training import build as experiment
from fer_jax.training import restore as trained
from fer_jax.training.checkpoint import state_digest
from fer_jax.weights.load import Weights, load_into

CLASSIFIER = "params/head/"


@dataclasses.dataclass(frozen=True)
class RunWeights:
    """The best weights of another run.

    Attributes:
      run: that run.
      params: its parameters.
      batch_stats: its statistics.
      sha256: of both, hexadecimal.
    """

    run: run_directory.Run
    params: Any
    batch_stats: Any
    sha256: str

    @property
    def normalization(self) -> tuple[str, InputFormat | None]:
        """How its network saw pixels."""
        return self.run.preprocessing.normalize, self.run.preprocessing.input_format

    def to_json(self) -> dict[str, Any]:
        """As the run that begins with them keeps it."""
        return {
            "file": self.run.name,
            "sha256": self.sha256,
            "source": self.run.data["name"],
            "layout": "run",
        }


Initial = Weights | RunWeights


def find_initial(config: ConfigDict, mesh: Mesh) -> Initial | None:
    """What `config.model.pretrained` names: a ported file, "imagenet" or a run directory.

    Raises:
      UserError: it cannot be had, or is of another network.
    """
    folder = Path(config.model.pretrained)
    if not folder.is_dir():
        return experiment.find_weights(config)
    run = run_directory.open_run(folder)
    if run.config.model.name != config.model.name:
        raise UserError(
            f"the run {folder} trained {run.config.model.name}, the network is "
            f"{config.model.name}; give a run of {config.model.name}, or "
            f"--config.model.name={run.config.model.name}"
        )
    state = trained.load_trained(run, mesh).best.state
    params, batch_stats = (state.inference_variables[name] for name in ("params", "batch_stats"))
    digest = state_digest({"params": params, "batch_stats": batch_stats})
    return RunWeights(run, params, batch_stats, digest)


def load_initial(
    initial: Initial, params: Any, batch_stats: Any, labels: tuple[str, ...]
) -> tuple[Any, Any, str]:
    """Puts first weights in the place of random ones.

    Args:
      initial: what `find_initial` found.
      params: of the whole network, freshly initialised.
      batch_stats: likewise.
      labels: the classes of the new run.

    Returns:
      params and batch_stats, and a line that says what was taken.

    Raises:
      UserError: the arrays do not fit the network.
    """
    if isinstance(initial, Weights):
        params, batch_stats, _ = load_into(initial, params, batch_stats)
        said = f"its backbone began as {initial.path.name}, ported from {initial.source}"
        return params, batch_stats, said
    begun = _flat(params, batch_stats)
    given = _flat(initial.params, initial.batch_stats)
    keeps_classifier = initial.run.labels == labels
    taken = {
        name: array
        for name, array in given.items()
        if keeps_classifier or not name.startswith(CLASSIFIER)
    }
    _check_fit(initial, begun, taken)
    merged = flax.traverse_util.unflatten_dict({**begun, **taken}, sep="/")
    classifier = "its classifier too" if keeps_classifier else "a new classifier for its classes"
    said = f"it began with the weights of the run {initial.run.folder}, with {classifier}"
    return merged["params"], merged.get("batch_stats", {}), said


def _flat(params: Any, batch_stats: Any) -> dict[str, Any]:
    tree = {"params": params, "batch_stats": batch_stats}
    return dict(flax.traverse_util.flatten_dict(tree, sep="/"))


def _check_fit(initial: RunWeights, begun: Mapping[str, Any], taken: Mapping[str, Any]) -> None:
    for name in sorted(begun.keys() | taken.keys()):
        if name.startswith(CLASSIFIER) and name not in taken:
            continue
        shapes = [tree[name].shape if name in tree else "none" for tree in (begun, taken)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the weights of the run {initial.run.folder} do not fit the network: expected "
                f"{name} {shapes[0]}, found {shapes[1]}; use its --config.data.size="
                f"{initial.run.preprocessing.size} and its fields of config.model"
            )
