"""A trained run's network with its best weights, as evaluation and prediction use it."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh

from fer_jax.run_dir import Run, read_temperature
from fer_jax.runtime import sharding
from fer_jax.training import packed
from fer_jax.training.build import make_model


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run's network with its best weights.

    Attributes:
      model: the network.
      variables: params and batch_stats with the best validation score.
      step: of the run, of these weights.
      averaged: whether they are the moving average of the weights.
      seconds: of training until then.
      temperature: divides the logits, see `tta.mean_log_probabilities`; 1 if none was fitted.
      environments: `run_dir.versions` of the invocations that trained them, where they differ.
    """

    model: nn.Module
    variables: dict[str, Any]
    step: int
    averaged: bool
    seconds: float
    temperature: float = 1.0
    environments: tuple[dict[str, str], ...] = ()


def load_trained(run: Run, mesh: Mesh, step: int | None = None) -> Trained:
    """Reads the best weights of a run onto the devices of `mesh`; no optimizer state.

    Args:
      run: the run.
      mesh: of the devices.
      step: of another checkpoint, of a run that has checkpoints.

    Raises:
      UserError: no checkpoint, a damaged one, or one that does not fit the run's settings.
    """
    model = make_model(run.settings, run.heads.outputs)
    if run.packed:
        trained = _from_packed(run, model, mesh)
    else:
        trained = _from_checkpoints(run, model, mesh, step)
    return dataclasses.replace(trained, temperature=read_temperature(run, trained.step))


def _from_packed(run: Run, model: nn.Module, mesh: Mesh) -> Trained:
    found = packed.read(run)
    placed = sharding.place(found.variables, mesh)
    return Trained(model, placed, found.step, found.averaged, found.seconds)


def _from_checkpoints(run: Run, model: nn.Module, mesh: Mesh, step: int | None) -> Trained:
    # Importing Orbax and Optax takes half a second; a packed run needs neither.
    from fer_jax.training.checkpoint import Checkpoints
    from fer_jax.training.recipe import make_recipe
    from fer_jax.training.stages import make_stages
    from fer_jax.training.state import TrainState, abstract_state, abstract_weights

    size = run.preprocessing.size

    def template_of(loop_state: dict[str, Any]) -> TrainState:
        optimizer = make_stages(run.settings, model)[loop_state["stage"]].optimizer
        return abstract_state(model, optimizer, size, mesh, make_recipe(run.settings))

    with Checkpoints(run.checkpoints, read_only=True, identity=run.identity) as checkpoints:
        weights = abstract_weights(model, size, mesh)
        if step is None:
            found = checkpoints.restore_best(weights, template_of)
        else:
            found = checkpoints.restore_weights(step, weights, template_of)
    loop_state = found.loop_state
    return Trained(
        model, found.variables, found.step, found.averaged, float(loop_state["seconds"]),
        environments=tuple(loop_state.get("environments", ())),
    )  # fmt: skip
