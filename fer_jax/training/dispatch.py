"""Several steps as one program, and which steps belong together.

Chunks begin at fixed multiples of their length and where a stage begins, whatever sitting
runs them: a resumed run executes the same programs as an unbroken one. What happens between
steps (logging, validation, saving) happens between chunks. The last chunk of a stage may be
shorter; it is a program of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from fer_jax.data.feed import Feed
from fer_jax.runtime import sharding
from fer_jax.runtime import xla_options as compiler
from fer_jax.training.metrics import TrainMetrics
from fer_jax.training.programs import Program
from fer_jax.training.state import TrainState
from fer_jax.training.step import TrainStep

LONGEST, SHORTEST = 16, 4
"""Steps of a chunk on an accelerator where the configuration leaves it open."""


@dataclasses.dataclass(frozen=True)
class ChunkPlan:
    """Where chunks begin and end.

    Attributes:
      steps: of a chunk.
      stage_ends: ascending; the last is the end of the run.
    """

    steps: int
    stage_ends: tuple[int, ...]

    def end_after(self, step: int) -> int | None:
        """The end of the chunk that begins at `step`; None at the end of the run."""
        if step >= self.stage_ends[-1]:
            return None
        stage_end = next(end for end in self.stage_ends if end > step)
        return min((step // self.steps + 1) * self.steps, stage_end)


def choose_steps(wanted: int | None, period: int, platform: str) -> int:
    """Steps of a chunk.

    Args:
      wanted: by the configuration; None leaves it open.
      period: steps between validations.
      platform: JAX's name of the devices' kind.
    """
    if wanted is not None:
        return wanted
    if platform == "cpu":
        # Measured: no faster there, and every step of a chunk is compiled again.
        return 1
    # One that divides the period, if there is, so that validations come at the ends of epochs.
    candidates = range(min(LONGEST, period), min(SHORTEST, period) - 1, -1)
    return next((steps for steps in candidates if period % steps == 0), candidates[0])


def make_chunk_program(
    step: TrainStep, feed: Feed, mesh: Mesh, options: dict[str, str] | None = None
) -> Program:
    """Compiles as many steps as the items have; the old state's memory is reused.

    The program takes the state, the feed's source and its items, and gives the state after K
    steps and metrics that begin with K.

    On CPU the steps stand one behind the other, because convolutions in a loop are many
    times slower there; elsewhere they are a loop.

    Args:
      step: that is repeated.
      feed: gives each step its batch.
      mesh: of the devices.
      options: of the compiler; by default those for any network.
    """

    def one(state: TrainState, source: Any, item: Any) -> tuple[TrainState, TrainMetrics]:
        batch = feed.pick(source, item)
        # What brings the batch must not be fused into the step: the same bits from every feed.
        return step(*jax.lax.optimization_barrier((state, batch)))

    def unrolled(state: TrainState, source: Any, items: Any) -> tuple[TrainState, TrainMetrics]:
        metrics = []
        for index in range(len(jax.tree.leaves(items)[0])):
            item = jax.tree.map(lambda leaf, at=index: leaf[at], items)
            state, of_step = one(state, source, item)
            metrics.append(of_step)
        return state, _stack(metrics)

    def scanned(state: TrainState, source: Any, items: Any) -> tuple[TrainState, TrainMetrics]:
        return jax.lax.scan(lambda carried, item: one(carried, source, item), state, items)

    platform = mesh.devices.flat[0].platform
    return Program(
        unrolled if platform == "cpu" else scanned,
        list(mesh.devices.flat),
        compiler.options() if options is None else options,
        donate_argnums=0,
        out_shardings=(sharding.new_state_sharding(mesh), sharding.replicated(mesh)),
    )


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
