"""XLA compiler options for the programs that training and inference repeat."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

# By default XLA uses YNNPACK for convolutions, matrix products and reductions on CPU. Eigen's
# convolutions are faster; custom_cnn's large matrix product and those in bfloat16 are faster with
# YNNPACK. Deserializing a program searches all of it once per YNNPACK operation: networks of
# repeated blocks have hundreds of products, which are as fast with Eigen in float32.
# Measured in results/speed.md.
_FUSIONS = "xla_cpu_experimental_ynn_fusion_type"
_DOTS_ONLY = {_FUSIONS: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
_NONE = {_FUSIONS: ""}


def for_model(model: Any = None) -> dict[str, str]:
    """Returns `compiler_options` for `jax.jit` that are fast on the default backend.

    Args:
      model: the network in the program; None for any.
    """
    if jax.default_backend() != "cpu" or not _are_known():
        return {}
    has_blocks = hasattr(model, "shares_blocks") and jnp.dtype(model.dtype) == jnp.float32
    return dict(_NONE if has_blocks else _DOTS_ONLY)


@functools.cache
def _are_known() -> bool:
    """Whether XLA accepts them: they are experimental and may be gone in a later release."""
    try:
        for known in (_DOTS_ONLY, _NONE):
            jax.jit(lambda: 0, compiler_options=known).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
