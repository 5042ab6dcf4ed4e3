"""A trained run's network: its best checkpoint, read back as it was trained.

For whoever uses a run: evaluation, and another run that begins where it ended.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh

from fer_jax.run_dir import Run
from fer_jax.training import build as experiment
from fer_jax.training import schedule as learning
from fer_jax.training.checkpoint import Checkpoints, Restored
from fer_jax.training.state import TrainState, abstract_state


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run's network with its best weights.

    Attributes:
      model: the network.
      best: the checkpoint with the best validation accuracy.
    """

    model: nn.Module
    best: Restored


def load_trained(run: Run, mesh: Mesh) -> Trained:
    """Reads the best checkpoint of a run onto the devices of `mesh`.

    Raises:
      UserError: there is none, it is damaged, or it does not fit the run's configuration.
    """
    model = experiment.make_model(run.config, len(run.labels))
    stages = learning.make_stages(run.config, model)
    recipe = learning.make_recipe(run.config)

    def template_of(memory: dict[str, Any]) -> TrainState:
        optimizer = stages[memory["stage"]].optimizer
        return abstract_state(model, optimizer, run.preprocessing.size, mesh, recipe)

    with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
        return Trained(model, checkpoints.restore_best(template_of))
