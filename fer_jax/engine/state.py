"""The arrays of a run that change with training, as one tree.

Nothing random is kept: every draw is folded from the seed and `step`.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fer_jax.engine import sharding


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
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    # lazy_init traces the network without compiling it: seconds instead of minutes.
    variables = model.lazy_init({"params": jax.random.key(seed)}, images, train=False)
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
    state = jax.eval_shape(lambda: create_state(model, optimizer, size, 0))
    copies = sharding.replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=copies), state
    )


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
