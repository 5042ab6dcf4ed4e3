"""BatchNorm with statistics and gradients that are fast on CPU."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fer_jax.models.layers import cpu_ops
from fer_jax.models.layers.sums import channel_sums

_Statistics = tuple[jax.Array, jax.Array]  # mean and variance of each channel, float32[C]


class BatchNorm(nn.BatchNorm):
    """`nn.BatchNorm` over the last axis; on CPU its sums are matrix products.

    Parameters, statistics and values equal Flax's. Supports the fields `use_running_average`,
    `momentum`, `epsilon`, `dtype`, `use_scale` and the initializers; the others are ignored.
    """

    @nn.compact
    def __call__(  # type: ignore[override]  # no mask
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps [B, ..., C] to [B, ..., C], each channel normalized."""
        use_stored = nn.merge_param("average", self.use_running_average, use_running_average)
        channels = x.shape[-1:]
        means = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variances = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = jnp.ones(channels)
        if self.use_scale:
            scale = self.param("scale", self.scale_init, channels, jnp.float32)
        bias = self.param("bias", self.bias_init, channels, jnp.float32)
        wide = x.astype(jnp.float32)
        if use_stored:
            y = _affine(wide, means.value, variances.value, scale, bias, self.epsilon)
        else:
            normalize = _normalize if cpu_ops.enabled() else _plain_normalize
            y, (mean, variance) = normalize(wide, scale, bias, self.epsilon)
            if not self.is_initializing():
                for average, new in ((means, mean), (variances, variance)):
                    average.value = self.momentum * average.value + (1 - self.momentum) * new
        return y.astype(self.dtype or x.dtype)


def _affine(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
) -> jax.Array:
    return (x - mean) * (jax.lax.rsqrt(variance + epsilon) * scale) + bias


def _plain_normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, _Statistics]:
    """Normalizes each channel of `x` and applies scale and bias; also returns the statistics."""
    count = x.size // x.shape[-1]
    mean = channel_sums(x) / count
    variance = jnp.maximum(channel_sums(jnp.square(x)) / count - jnp.square(mean), 0)
    return _affine(x, mean, variance, scale, bias, epsilon), (mean, variance)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, _Statistics]:
    """`_plain_normalize` with a faster gradient; the returned statistics have none."""
    return _plain_normalize(x, scale, bias, epsilon)


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Any:
    y, (mean, variance) = _plain_normalize(x, scale, bias, epsilon)
    return (y, (mean, variance)), (x, scale, mean, jax.lax.rsqrt(variance + epsilon))


def _backward(_: float, residuals: Any, gradients: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    (x, scale, mean, inverse), gradient = residuals, gradients[0]
    count = x.size // x.shape[-1]
    standardized = (x - mean) * inverse
    d_bias, d_scale = channel_sums(gradient), channel_sums(gradient * standardized)
    through_statistics = (d_bias + standardized * d_scale) / count
    return (gradient - through_statistics) * (inverse * scale), d_scale, d_bias


_normalize.defvjp(_forward, _backward)
