"""One batch worked through in parts, for batches that do not fit into memory at once.

The parts' gradients are averaged, so that a step is what it would be with the whole batch:
augmentation has happened before, and dropout draws for the whole batch and takes its rows.
BatchNorm alone differs: it normalises each part by itself, and its running statistics move
once, by the mean of the parts'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

WholeBatch = Callable[[Any, jax.Array], tuple[Any, Any]]
"""Examples and their row numbers to what is averaged over images, and what is kept per image."""


def in_parts(function: WholeBatch, count: int, examples: Any) -> tuple[Any, Any]:
    """`function` of all examples, called with every `count`-th of them at a time.

    Every `count`-th, because then each device works on its own rows in every part.

    Args:
      function: gives a tree of means over the images, and a tree of arrays [b, ...] per image.
      count: parts; it divides the batch.
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
    # XLA compiles a rolled loop's convolutions badly on CPU.
    sums, each = jax.lax.scan(one, zeros, parts, unroll=jax.default_backend() == "cpu")
    return jax.tree.map(lambda leaf: leaf / count, sums), jax.tree.map(joined, each)


def dropout_of_rows(rows: jax.Array, total: int) -> contextlib.AbstractContextManager[Any]:
    """While entered, dropout drops what it would drop in these rows of a batch of `total`."""
    if rows.shape[0] == total:
        return contextlib.nullcontext()

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        if not isinstance(context.module, nn.Dropout) or context.method_name != "__call__":
            return call(*args, **kwargs)
        inputs, *rest = args
        kept = call(jnp.ones((total, *inputs.shape[1:]), inputs.dtype), *rest, **kwargs)
        return inputs * kept[rows]

    return nn.intercept_methods(intercept)
