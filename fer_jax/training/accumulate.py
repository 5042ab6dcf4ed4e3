"""Gradient accumulation: one batch in micro-batches, for batches that do not fit into memory.

The gradients of the micro-batches are averaged, so that a step is the same as with the whole
batch: augmentation happens before, and dropout draws for the whole batch. Only BatchNorm differs:
it normalizes each micro-batch separately, and its running statistics move once, by their mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

MicroBatch = Callable[[Any, jax.Array], tuple[Any, Any]]
"""Maps examples and their row numbers to a tree of means over images, and one of values for each
image."""


def over_micro_batches(function: MicroBatch, count: int, examples: Any) -> tuple[Any, Any]:
    """Calls `function` on `count` micro-batches and combines the results.

    A micro-batch is every `count`-th row, so that each device works on its own rows in all of
    them.

    Args:
      function: returns a tree of means over images, and a tree of arrays [b, ...] per image.
      count: number of micro-batches; divides the batch.
      examples: a tree of arrays [B, ...].

    Returns:
      The mean of the means, and the arrays per image [B, ...].
    """
    total = jax.tree.leaves(examples)[0].shape[0]
    if count == 1:
        return function(examples, jnp.arange(total))

    def split(rows: jax.Array) -> jax.Array:
        return jnp.moveaxis(rows.reshape(total // count, count, *rows.shape[1:]), 1, 0)

    def joined(parts: jax.Array) -> jax.Array:
        return jnp.moveaxis(parts, 0, 1).reshape(total, *parts.shape[2:])

    def one(sums: Any, part: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        means, each = function(*part)
        return jax.tree.map(jnp.add, sums, means), each

    parts = jax.tree.map(split, (examples, jnp.arange(total)))
    shapes = jax.eval_shape(function, *jax.tree.map(lambda rows: rows[0], parts))[0]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    # Convolutions inside a loop are slow on CPU.
    sums, each = jax.lax.scan(one, zeros, parts, unroll=jax.default_backend() == "cpu")
    return jax.tree.map(lambda leaf: leaf / count, sums), jax.tree.map(joined, each)


def dropout_of_rows(rows: jax.Array, total: int) -> contextlib.AbstractContextManager[Any]:
    """Context in which dropout drops what it would in these rows of a batch of `total` rows."""
    if rows.shape[0] == total:
        return contextlib.nullcontext()

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        if not isinstance(context.module, nn.Dropout) or context.method_name != "__call__":
            return call(*args, **kwargs)
        inputs, *rest = args
        mask = call(jnp.ones((total, *inputs.shape[1:]), inputs.dtype), *rest, **kwargs)
        return inputs * mask[rows]

    return nn.intercept_methods(intercept)
