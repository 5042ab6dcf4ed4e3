"""The exponential moving average of a network's weights and statistics.

A short average stands for a long one at the beginning: the decay rises as
(1 + n) / (10 + n) up to its full value, so that the first random weights are soon forgotten
(TensorFlow's ExponentialMovingAverage with num_updates).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fer_jax.training.state import TrainState


def decay_after(updates: jax.Array, full: float) -> jax.Array:
    """The decay of the average's n-th update, n from 0: float32 scalar."""
    count = updates.astype(jnp.float32)
    return jnp.minimum(full, (1 + count) / (10 + count))


def averaged(state: TrainState, full: float) -> Any:
    """The average when `state.variables` have joined it; None where none is kept.

    Args:
      state: whose `step` counts the updates, this one included.
      full: the decay far from the beginning.
    """
    if state.ema is None:
        return None
    decay = decay_after(state.step - 1, full)
    return jax.tree.map(
        lambda average, value: decay * average + (1 - decay) * value, state.ema, state.variables
    )
