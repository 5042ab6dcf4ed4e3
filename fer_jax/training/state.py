"""The arrays of a run that change with training, as one tree.

Nothing random is kept: every draw is folded from the seed and `step`.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fer_jax.models.layers import initializers
from fer_jax.models.registry import shared_blocks
from fer_jax.runtime import sharding
from fer_jax.training.recipe import PLAIN, Recipe


@flax.struct.dataclass
class TrainState:
    """What a training step reads and writes.

    Attributes:
      step: int32 scalar, the number of steps done.
      params: the network's parameters, float32.
      batch_stats: running statistics of normalisation layers; empty if there are none.
      opt_state: of the Optax optimizer.
      ema: moving average of params and batch_stats, in the form of `variables`; None when off.
      rate_scale: float32 scalar that the learning rate is multiplied by, set by the host after
        a validation; None where the schedule needs none.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any = None
    rate_scale: jax.Array | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes in training."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def inference_variables(self) -> dict[str, Any]:
        """What validation and every later use take: the average where there is one."""
        return self.variables if self.ema is None else self.ema


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    size: int,
    seed: int,
    recipe: Recipe = PLAIN,
    mesh: Mesh | None = None,
) -> TrainState:
    """A new state at step 0 with random weights.

    Args:
      model: takes float32 images [B, size, size, 3] and `train`.
      optimizer: whose state is created too.
      size: side of the input, pixels.
      seed: of the initial weights.
      recipe: says which of the optional arrays there are.
      mesh: of the devices that it is placed on, where it must never be whole on one of them;
        else parts of it are NumPy arrays.
    """
    variables = initializers.draw(_variables(model, size), seed)
    if mesh is None:
        return _begun(variables, optimizer, recipe)
    # What follows lies as the variables do.
    return sharding.place(_begun(sharding.place(variables, mesh), optimizer, recipe), mesh)


def abstract_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    size: int,
    mesh: Mesh,
    recipe: Recipe = PLAIN,
) -> TrainState:
    """The form of `create_state`'s result as it lies on the devices of `mesh`: no arrays."""
    begun = functools.partial(_begun, optimizer=optimizer, recipe=recipe)
    state = jax.eval_shape(begun, _variables(model, size))
    form: TrainState = jax.tree.map(
        lambda leaf, placed: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed),
        state,
        sharding.state_shardings(state, mesh),
    )
    return form


def _begun(variables: Any, optimizer: optax.GradientTransformation, recipe: Recipe) -> TrainState:
    """The state at step 0 of the network's arrays."""
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


def _variables(model: nn.Module, size: int) -> Any:
    """The shapes of the network's arrays; nothing is compiled or computed for them."""
    with _tracing:  # once, where one thread makes the state and another its program
        return _traced_variables(model, size)


_tracing = threading.Lock()


@functools.lru_cache(maxsize=1)
def _traced_variables(model: nn.Module, size: int) -> Any:
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    init = functools.partial(shared_blocks(model).init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)


def with_weights(state: TrainState, params: Any, batch_stats: Any) -> TrainState:
    """`state` that begins with other weights, its average too."""
    state = dataclasses.replace(state, params=params, batch_stats=batch_stats)
    if state.ema is None:
        return state
    # Copies: a step gives its state's memory away, and no array twice.
    return dataclasses.replace(state, ema=jax.tree.map(jnp.copy, state.variables))


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
