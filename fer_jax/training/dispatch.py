"""Several training steps per dispatched program, and which steps belong together.

Chunks start at fixed multiples of their length and at the start of a stage, in every invocation:
a resumed run executes the same programs as an uninterrupted one. Logging, validation and saving
happen between chunks. The last chunk of a stage may be shorter and is compiled separately.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from fer_jax.data.feed import Feed
from fer_jax.runtime import sharding, xla_options
from fer_jax.training.metrics import TrainMetrics
from fer_jax.training.state import TrainState
from fer_jax.training.step import TrainStep

MAX_STEPS, MIN_STEPS = 16, 4
"""Steps of a chunk on an accelerator if the config leaves it open."""

ChunkProgram = Callable[[TrainState, Any, Any], tuple[TrainState, TrainMetrics]]
"""Maps the state, the feed's source and its items for K steps to the state after K steps and
metrics with a leading axis K."""


@dataclasses.dataclass(frozen=True)
class ChunkPlan:
    """Where chunks start and end.

    Attributes:
      steps: number of steps of a chunk.
      stage_ends: ascending; the last is the end of the run.
    """

    steps: int
    stage_ends: tuple[int, ...]

    def end_after(self, step: int) -> int | None:
        """Returns the end of the chunk that starts at `step`; None at the end of the run."""
        if step >= self.stage_ends[-1]:
            return None
        stage_end = next(end for end in self.stage_ends if end > step)
        return min((step // self.steps + 1) * self.steps, stage_end)


def choose_steps(requested: int | None, period: int, platform: str) -> int:
    """Returns the number of steps of a chunk.

    Args:
      requested: by the config; None leaves it open.
      period: steps between validations.
      platform: JAX's name of the platform.
    """
    if requested is not None:
        return requested
    if platform == "cpu":
        # Measured: no faster on CPUs, where each step of a chunk is compiled separately.
        return 1
    # A divisor of the period if possible, so that validations fall on the ends of epochs.
    candidates = range(min(MAX_STEPS, period), min(MIN_STEPS, period) - 1, -1)
    return next((steps for steps in candidates if period % steps == 0), candidates[0])


def make_chunk_program(
    step: TrainStep, feed: Feed, mesh: Mesh, options: dict[str, str] | None = None
) -> ChunkProgram:
    """Jits as many steps as the items hold, donating the state.

    On CPU the steps are unrolled, because convolutions inside a loop are many times slower
    there; elsewhere they are a `lax.scan`.

    Args:
      step: the training step.
      feed: makes each step's batch.
      mesh: of the devices.
      options: XLA compiler options; default: those for any network.
    """

    def one(state: TrainState, source: Any, item: Any) -> tuple[TrainState, TrainMetrics]:
        batch = feed.pick(source, item)
        # The barrier keeps the feed from being fused into the step: the same bits with any feed.
        return step(*jax.lax.optimization_barrier((state, batch)))

    def unrolled(state: TrainState, source: Any, items: Any) -> tuple[TrainState, TrainMetrics]:
        metrics = []
        for index in range(len(jax.tree.leaves(items)[0])):
            item = jax.tree.map(lambda leaf, at=index: leaf[at], items)
            state, step_metrics = one(state, source, item)
            metrics.append(step_metrics)
        return state, _stack(metrics)

    def scanned(state: TrainState, source: Any, items: Any) -> tuple[TrainState, TrainMetrics]:
        return jax.lax.scan(lambda carried, item: one(carried, source, item), state, items)

    platform = mesh.devices.flat[0].platform
    return jax.jit(
        unrolled if platform == "cpu" else scanned,
        donate_argnums=0,
        out_shardings=(sharding.new_state_sharding(mesh), sharding.replicated(mesh)),
        compiler_options=xla_options.for_model() if options is None else options,
    )


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
