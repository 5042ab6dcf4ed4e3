"""Initial weights of a network: random, a ported file, or another run's.

A ported file gives the backbone. Another run gives everything, and of the classifier the columns of
the classes that both have, by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import numpy as np
from jax.sharding import Mesh

from fer_jax import run_dir
from fer_jax.data.preprocess import InputFormat
from fer_jax.errors import UserError
from fer_jax.heads import Heads
from fer_jax.settings import Settings
from fer_jax.training.checkpoint import state_digest
from fer_jax.training.restore import load_trained
from fer_jax.weights import published
from fer_jax.weights.load import Weights, load_into, open_weights

CLASSIFIER = "params/head/"


@dataclasses.dataclass(frozen=True)
class RunWeights:
    """The best weights of another run.

    Attributes:
      run: that run.
      params: its parameters.
      batch_stats: its running statistics.
      sha256: of both, hexadecimal.
    """

    run: run_dir.Run
    params: Any
    batch_stats: Any
    sha256: str

    @property
    def normalization(self) -> tuple[str, InputFormat | None]:
        """The normalization that the weights were trained with."""
        return self.run.preprocessing.normalize, self.run.preprocessing.input_format

    def to_json(self) -> dict[str, Any]:
        """Returns the description that the new run stores."""
        return {
            "file": self.run.name,
            "sha256": self.sha256,
            "source": self.run.data["name"],
            "layout": "run",
        }


InitialWeights = Weights | RunWeights


def find_initial_weights(settings: Settings, mesh: Mesh) -> InitialWeights | None:
    """Returns what `settings.model.pretrained` names; None for "none".

    "imagenet" may download a file into the cache.

    Raises:
      UserError: it is not there, or belongs to another network.
    """
    chosen, model = settings.model.pretrained, settings.model.name
    if chosen == "none":
        return None
    if chosen == "imagenet":
        return open_weights(published.imagenet_port(model), model)
    if not run_dir.find_run(chosen).is_dir():
        return open_weights(Path(chosen), model)
    run = run_dir.open_run(Path(chosen))
    if run.settings.model.name != model:
        raise UserError(
            f"the run {chosen} trained {run.settings.model.name}, the network is {model}; give a "
            f"run of {model}, or --config.model.name={run.settings.model.name}"
        )
    variables = load_trained(run, mesh).variables
    digest = state_digest({name: variables[name] for name in ("params", "batch_stats")})
    return RunWeights(run, variables["params"], variables["batch_stats"], digest)


def load_initial_weights(
    initial: InitialWeights,
    params: Any,
    batch_stats: Any,
    labels: tuple[str, ...],
    heads: Heads,
) -> tuple[Any, Any, str]:
    """Replaces random weights by initial weights.

    Args:
      initial: as `find_initial_weights` returns it.
      params: randomly initialized, of the whole network.
      batch_stats: likewise.
      labels: classes of the new run.
      heads: of its network.

    Returns:
      params, batch_stats, and a line that describes what was replaced.

    Raises:
      UserError: the arrays do not fit the network.
    """
    if isinstance(initial, Weights):
        params, batch_stats, _ = load_into(initial, params, batch_stats)
        line = f"initial weights of the backbone: {initial.path.name}, ported from {initial.source}"
        return params, batch_stats, line
    fresh = _flat(params, batch_stats)
    stored = _flat(initial.params, initial.batch_stats)
    known = initial.run.labels
    shared = [label for label in labels if label in known]
    taken = {name: array for name, array in stored.items() if not name.startswith(CLASSIFIER)}
    if known == labels and initial.run.heads == heads:
        taken, classifier = stored, "classifier included"
    elif shared:
        pairs = [(labels.index(label), known.index(label)) for label in shared]
        taken |= _classifier(fresh, stored, pairs)
        classifier = f"with its classifier of {len(shared)} of {len(labels)} classes"
    else:
        classifier = "with a new classifier"
    _check_fit(initial, fresh, taken)
    merged = flax.traverse_util.unflatten_dict({**fresh, **taken}, sep="/")
    line = f"initial weights: the run {initial.run.folder}, {classifier}"
    return merged["params"], merged.get("batch_stats", {}), line


def _classifier(
    fresh: Mapping[str, Any], stored: Mapping[str, Any], pairs: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Returns the classifier's arrays [..., C] with some columns stored and the others random.

    Args:
      fresh: the random arrays by name.
      stored: the arrays of the other run.
      pairs: column of the new classifier, column of the stored one.
    """
    new, old = (np.array(columns) for columns in zip(*pairs, strict=True))
    arrays = {}
    for name in fresh.keys() & stored.keys():
        if name.startswith(CLASSIFIER) and fresh[name].shape[:-1] == stored[name].shape[:-1]:
            arrays[name] = np.array(fresh[name])
            arrays[name][..., new] = np.asarray(stored[name])[..., old]
    return arrays


def _flat(params: Any, batch_stats: Any) -> dict[str, Any]:
    tree = {"params": params, "batch_stats": batch_stats}
    return dict(flax.traverse_util.flatten_dict(tree, sep="/"))


def _check_fit(initial: RunWeights, fresh: Mapping[str, Any], taken: Mapping[str, Any]) -> None:
    for name in sorted(fresh.keys() | taken.keys()):
        if name.startswith(CLASSIFIER) and name not in taken:
            continue
        shapes = [tree[name].shape if name in tree else "none" for tree in (fresh, taken)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the weights of the run {initial.run.folder} do not fit the network: expected "
                f"{name} {shapes[0]}, found {shapes[1]}; use its --config.data.size="
                f"{initial.run.preprocessing.size} and its fields of config.model"
            )
