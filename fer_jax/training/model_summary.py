"""What a network is made of, as text: its parameters one by one, and the work per image."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from clu import parameter_overview

from fer_jax.models.layers import cpu_ops
from fer_jax.models.registry import shared_blocks
from fer_jax.training.state import count_parameters


@dataclasses.dataclass(frozen=True)
class Overview:
    """A network at a size of its input.

    Attributes:
      parameters: number of trained scalars.
      statistics: number of scalars that normalisation layers keep beside them.
      flops: floating-point operations of the forward pass of one image, a multiplication with
        its addition counted as two; None where the compiler does not tell.
      table: every array with its shape and size, as many lines.
    """

    parameters: int
    statistics: int
    flops: float | None
    table: str

    def __str__(self) -> str:
        """Such as "15,244,104 parameters, 30.7 GFLOP per image"."""
        parts = [f"{self.parameters:,} parameters"]
        if self.statistics:
            parts.append(f"{self.statistics:,} statistics")
        if self.flops:
            parts.append(f"{self.flops / 1e9:.3g} GFLOP per image")
        return ", ".join(parts)


def describe_network(model: nn.Module, variables: dict[str, Any], size: int) -> Overview:
    """Counts what `variables` hold, and the work on one image of `size` x `size` pixels."""
    return Overview(
        parameters=count_parameters(variables["params"]),
        statistics=count_parameters(variables.get("batch_stats", {})),
        flops=_flops(model, variables, size),
        table=parameter_overview.get_parameter_overview(variables, include_stats=False),
    )


def _flops(model: nn.Module, variables: dict[str, Any], size: int) -> float | None:
    """XLA's count for the program before optimisation: nothing is compiled for it."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    # Shapes alone: arrays would bring their sharding, and a device's share of the work.
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    network = shared_blocks(model)
    with cpu_ops.disabled():  # the network's work, not that of a form that is faster here
        lowered = jax.jit(network.apply, static_argnames="train").lower(shapes, images, train=False)
    costs = lowered.cost_analysis() or {}
    return costs.get("flops")
