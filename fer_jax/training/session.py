"""What training needs and does not change: the run, its data on the devices, its programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from fer_jax import config as configuration
from fer_jax.data.feed import Feed
from fer_jax.data.records import Split
from fer_jax.data.sampling import BatchSampler
from fer_jax.data.store import Store
from fer_jax.run_dir import Run
from fer_jax.runtime import distributed
from fer_jax.training import kept
from fer_jax.training.dispatch import ChunkPlan
from fer_jax.training.evaluation import Evaluator
from fer_jax.training.initial_weights import Initial
from fer_jax.training.programs import Program
from fer_jax.training.recipe import Recipe
from fer_jax.training.schedule import Pace
from fer_jax.training.stages import Stage
from fer_jax.training.state import TrainState, abstract_state


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that does not change while training.

    Attributes:
      run: the run directory.
      training: the records that are learned.
      validation: the records that decide which state is best.
      validation_store: their pictures.
      feed: brings the training pictures to the devices.
      sampler: which rows form which batch.
      mesh: of the devices.
      plan: which steps form which chunk.
      stages: of training.
      programs: a chunk's program for each stage.
      evaluate: of the validation split.
      model: the network.
      recipe: how a step learns.
      weights: what the network begins with; None where that is chance or lies behind.
      store: where the pictures are, by name.
      pace: when things happen.
    """

    run: Run
    training: Split
    validation: Split
    validation_store: Store
    feed: Feed
    sampler: BatchSampler
    mesh: Mesh
    plan: ChunkPlan
    stages: tuple[Stage, ...]
    programs: tuple[Program, ...]
    evaluate: Evaluator
    model: nn.Module
    recipe: Recipe
    weights: Initial | None
    store: str
    pace: Pace

    @property
    def config(self) -> ConfigDict:
        """The run's configuration."""
        return self.run.config

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self.pace.epoch_steps

    @property
    def total_steps(self) -> int:
        """Steps of the whole run if it does not stop early."""
        return self.stages[-1].end

    def template_of(self, memory: dict[str, Any]) -> TrainState:
        """A state of the form that the stage of a checkpoint's memory has."""
        optimizer = self.stages[memory["stage"]].optimizer
        return abstract_state(
            self.model, optimizer, self.run.preprocessing.size, self.mesh, self.recipe
        )

    def prepare(self, step: int) -> None:
        """Begins to make ready, beside other work, the program of the chunk at `step`.

        Each stage has one that is made ready; chunks of another length compile when they come.
        """
        last = self.plan.end_after(step)
        if last is None or not distributed.is_alone():
            return  # several processes compile at the same moment, as they always do
        stage = next(number for number, stage in enumerate(self.stages) if step < stage.end)

        def arguments() -> tuple[Any, ...]:
            items = self.feed.put(self.sampler.rows(step, last - step))
            return self.template_of({"stage": stage}), self.feed.source, items

        if self.programs[stage].ready is None:
            self.programs[stage].prepare(arguments, self._key(stage, last - step))

    def _key(self, stage: int, steps: int) -> str | None:
        """Under which the program of so many steps is kept: all that it is made from."""
        if not type(self.model).__module__.startswith("fer_jax."):
            return None  # a network that somebody brought, whose sources are not ours
        source = jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), self.feed.source
        )
        return kept.key_of(
            sorted(configuration.flatten(self.config).items()),
            (stage, steps, self.pace, self.store, source, self.mesh),
            (self.model, self.run.labels, self.run.preprocessing, self.recipe),
        )

    def validates_after(self, first: int, last: int) -> bool:
        """Whether a validation follows the chunk from step `first` to step `last`."""
        period = self.pace.eval_steps
        return first // period < last // period or last == self.total_steps

    def logs_after(self, first: int, last: int) -> bool:
        """Whether a log line follows the chunk from step `first` to step `last`."""
        period = self.pace.log_steps
        return first // period < last // period


def steps_per_epoch(split: Split, config: ConfigDict) -> int:
    """Batches of one pass; what is left over runs on into the next pass."""
    return max(1, len(split) // config.train.batch_size)


def with_optimizer_of(stage: Stage, state: TrainState) -> TrainState:
    """`state` with a new memory of the stage's optimizer."""
    return dataclasses.replace(state, opt_state=stage.optimizer.init(state.params))
