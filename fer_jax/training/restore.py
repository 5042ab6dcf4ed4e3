"""A trained run's network with its best weights, as evaluation and prediction use it."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh

from fer_jax.run_dir import Run
from fer_jax.training.build import make_model
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.recipe import make_recipe
from fer_jax.training.stages import make_stages
from fer_jax.training.state import TrainState, abstract_state, abstract_weights


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run's network with its best weights.

    Attributes:
      model: the network.
      variables: params and batch_stats with the best validation score.
      step: of the run, of these weights.
      averaged: whether they are the moving average of the weights.
      seconds: of training until then.
      environments: `run_dir.versions` of the invocations that trained them, where they differ.
    """

    model: nn.Module
    variables: dict[str, Any]
    step: int
    averaged: bool
    seconds: float
    environments: tuple[dict[str, str], ...] = ()


def load_trained(run: Run, mesh: Mesh) -> Trained:
    """Reads the best weights of a run onto the devices of `mesh`; no optimizer state.

    Raises:
      UserError: no checkpoint, a damaged one, or one that does not fit the run's settings.
    """
    model = make_model(run.settings, len(run.labels))
    size = run.preprocessing.size

    def template_of(loop_state: dict[str, Any]) -> TrainState:
        optimizer = make_stages(run.settings, model)[loop_state["stage"]].optimizer
        return abstract_state(model, optimizer, size, mesh, make_recipe(run.settings))

    with Checkpoints(run.checkpoints, read_only=True, identity=run.identity) as checkpoints:
        best = checkpoints.restore_best(abstract_weights(model, size, mesh), template_of)
    return Trained(
        model, best.variables, best.step, best.averaged, float(best.loop_state["seconds"]),
        tuple(best.loop_state.get("environments", ())),
    )  # fmt: skip
