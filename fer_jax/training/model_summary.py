"""A network as text: its arrays, parameter count and FLOPs per image."""

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
class ModelSummary:
    """A network at one input size.

    Attributes:
      parameters: number of trainable scalars.
      statistics: number of running statistics of normalization layers.
      flops: of the forward pass of one image, a multiply-add counted as two; None if XLA does
        not report it.
      table: a line per array with its shape and size.
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


def summarize(model: nn.Module, variables: dict[str, Any], size: int) -> ModelSummary:
    """Counts the scalars in `variables` and the FLOPs of one image of `size` x `size` pixels."""
    return ModelSummary(
        parameters=count_parameters(variables["params"]),
        statistics=count_parameters(variables.get("batch_stats", {})),
        flops=_flops(model, variables, size),
        table=parameter_overview.get_parameter_overview(variables, include_stats=False),
    )


def _flops(model: nn.Module, variables: dict[str, Any], size: int) -> float | None:
    """Returns XLA's count for the unoptimized program; nothing is compiled."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    # Shapes only: arrays would bring their sharding, and count one device's share.
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    network = shared_blocks(model)
    with cpu_ops.disabled():  # count the network's own FLOPs, not those of a faster form
        lowered = jax.jit(network.apply, static_argnames="train").lower(shapes, images, train=False)
    costs = lowered.cost_analysis() or {}
    return costs.get("flops")
