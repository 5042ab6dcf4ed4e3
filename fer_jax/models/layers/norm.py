"""BatchNorm, in the form that is fast where the network runs."""

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
    """`nn.BatchNorm` of the last axis, whose batch statistics and gradient are products on CPU.

    Parameters, statistics and values are Flax's. Of its fields those count that the networks
    here set: `use_running_average`, `momentum`, `epsilon`, `dtype` and `use_scale`.
    """

    @nn.compact
    def __call__(  # type: ignore[override]  # nothing is masked here
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps [B, ..., C] to [B, ..., C], each channel normalised."""
        stored = nn.merge_param("average", self.use_running_average, use_running_average)
        channels = x.shape[-1:]
        means = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variances = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = jnp.ones(channels)
        if self.use_scale:
            scale = self.param("scale", self.scale_init, channels, jnp.float32)
        bias = self.param("bias", self.bias_init, channels, jnp.float32)
        wide = x.astype(jnp.float32)
        if stored:
            y = _scaled(wide, means.value, variances.value, scale, bias, self.epsilon)
        else:
            normalised = _normalised if cpu_ops.enabled() else _plainly_normalised
            y, (mean, variance) = normalised(wide, scale, bias, self.epsilon)
            if not self.is_initializing():
                for kept, new in ((means, mean), (variances, variance)):
                    kept.value = self.momentum * kept.value + (1 - self.momentum) * new
        return y.astype(self.dtype or x.dtype)


def _scaled(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
) -> jax.Array:
    return (x - mean) * (jax.lax.rsqrt(variance + epsilon) * scale) + bias


def _plainly_normalised(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, _Statistics]:
    """`x` of mean 0 and variance 1, scaled and moved; and what its statistics were."""
    count = x.size // x.shape[-1]
    mean = channel_sums(x) / count
    variance = jnp.maximum(channel_sums(jnp.square(x)) / count - jnp.square(mean), 0)
    return _scaled(x, mean, variance, scale, bias, epsilon), (mean, variance)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, _Statistics]:
    """The same; no gradient comes from the statistics: they are kept, not learned from."""
    return _plainly_normalised(x, scale, bias, epsilon)


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Any:
    y, (mean, variance) = _plainly_normalised(x, scale, bias, epsilon)
    return (y, (mean, variance)), (x, scale, mean, jax.lax.rsqrt(variance + epsilon))


def _backward(_: float, kept: Any, gradients: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    (x, scale, mean, inverse), gradient = kept, gradients[0]
    count = x.size // x.shape[-1]
    standard = (x - mean) * inverse
    of_bias, of_scale = channel_sums(gradient), channel_sums(gradient * standard)
    to_all = (of_bias + standard * of_scale) / count
    return (gradient - to_all) * (inverse * scale), of_scale, of_bias


_normalised.defvjp(_forward, _backward)
