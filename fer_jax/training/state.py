"""The arrays of a run that change with training, as one pytree.

No RNG state is stored: every random draw is folded from the seed and `step`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fer_jax.models.initialize import abstract_variables, initialize
from fer_jax.runtime import sharding
from fer_jax.training.recipe import PLAIN, Recipe


@flax.struct.dataclass
class TrainState:
    """What a training step reads and writes.

    Attributes:
      step: int32 scalar, the number of steps done.
      params: the network's parameters, float32.
      batch_stats: running statistics of normalization layers; empty if there are none.
      opt_state: state of the Optax optimizer.
      ema: moving average of params and batch_stats, structured as `variables`; None if disabled.
      rate_scale: float32 scalar factor of the learning rate, set by the host after a
        validation; None if the schedule needs none.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any = None
    rate_scale: jax.Array | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """Returns what `model.apply` takes in training."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def inference_variables(self) -> dict[str, Any]:
        """Returns what validation and inference use: the moving average if there is one."""
        return self.variables if self.ema is None else self.ema


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    size: int,
    seed: int,
    recipe: Recipe = PLAIN,
    mesh: Mesh | None = None,
) -> TrainState:
    """Returns a new state at step 0 with randomly initialized weights.

    Args:
      model: takes float32 images [B, size, size, 3] and `train`.
      optimizer: its state is created too.
      size: side of the input, pixels.
      seed: of the initial weights.
      recipe: determines the optional arrays.
      mesh: devices to place the state on, without ever holding all of it on one of them; None
        leaves the weights as NumPy arrays.
    """
    variables = initialize(model, size, seed)
    if mesh is None:
        return _initial_state(variables, optimizer, recipe)
    # The optimizer state is created with the sharding of the variables.
    state = _initial_state(sharding.place(variables, mesh), optimizer, recipe)
    return sharding.place(state, mesh)


def abstract_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    size: int,
    mesh: Mesh,
    recipe: Recipe = PLAIN,
) -> TrainState:
    """Returns the shapes, dtypes and shardings of `create_state`'s result on `mesh`."""

    def initial(variables: Any) -> TrainState:
        return _initial_state(variables, optimizer, recipe)

    state: TrainState = _placed(jax.eval_shape(initial, abstract_variables(model, size)), mesh)
    return state


def abstract_weights(model: nn.Module, size: int, mesh: Mesh) -> dict[str, Any]:
    """Returns the shapes, dtypes and shardings of params and batch_stats on `mesh`."""
    variables = abstract_variables(model, size)
    weights = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    placed: dict[str, Any] = _placed(weights, mesh)
    return placed


def _placed(tree: Any, mesh: Mesh) -> Any:
    return jax.tree.map(
        lambda leaf, placed: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed),
        tree,
        sharding.state_shardings(tree, mesh),
    )


def _initial_state(
    variables: Any, optimizer: optax.GradientTransformation, recipe: Recipe
) -> TrainState:
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
        rate_scale=jnp.ones((), jnp.float32) if recipe.scales_rate else None,
    )
    if recipe.ema_decay:
        state = dataclasses.replace(state, ema=jax.tree.map(jnp.copy, state.variables))
    return state


def with_weights(state: TrainState, params: Any, batch_stats: Any) -> TrainState:
    """Returns `state` with other weights, in its moving average too."""
    state = dataclasses.replace(state, params=params, batch_stats=batch_stats)
    if state.ema is None:
        return state
    # Copies: a step donates the state's buffers, and none may be donated twice.
    return dataclasses.replace(state, ema=jax.tree.map(jnp.copy, state.variables))


def count_parameters(params: Any) -> int:
    """Returns the number of scalars in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
