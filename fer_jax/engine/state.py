"""The arrays of a run that change with training, as one tree.

Nothing random is kept: every draw is folded from the seed and `step`.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fer_jax.engine import sharding
from fer_jax.models import initializers
from fer_jax.models.registry import shared_blocks


@flax.struct.dataclass
class TrainState:
    """What a training step reads and writes.

    Attributes:
      step: int32 scalar, the number of steps done.
      params: the network's parameters, float32.
      batch_stats: running statistics of normalisation layers; empty if there are none.
      opt_state: of the Optax optimizer.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    model: nn.Module, optimizer: optax.GradientTransformation, size: int, seed: int
) -> TrainState:
    """A new state at step 0 with random weights.

    Args:
      model: takes float32 images [B, size, size, 3] and `train`.
      optimizer: whose state is created too.
      size: side of the input, pixels.
      seed: of the initial weights.
    """
    variables = initializers.draw(_variables(model, size), seed)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )


def abstract_state(
    model: nn.Module, optimizer: optax.GradientTransformation, size: int, mesh: Mesh
) -> TrainState:
    """The form of `create_state`'s result with a copy on each device of `mesh`: no arrays."""
    variables = _variables(model, size)
    state = TrainState(
        step=jax.eval_shape(lambda: jnp.zeros((), jnp.int32)),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.eval_shape(optimizer.init, variables["params"]),
    )
    copies = sharding.replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=copies), state
    )


def _variables(model: nn.Module, size: int) -> Any:
    """The shapes of the network's arrays; nothing is compiled or computed for them."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    init = functools.partial(shared_blocks(model).init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
