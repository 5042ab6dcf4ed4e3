"""What XLA is told when it compiles the programs that training and evaluation repeat."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

# By default XLA gives YNNPACK convolutions, matrix products and reductions on CPU. Eigen's
# convolutions are faster than its; custom_cnn's large product is faster with it, and so are those
# in bfloat16. Reading a program back searches the whole program once for each operation of
# YNNPACK: networks of repeated blocks have hundreds of products, as fast with Eigen in float32.
# Figures: benchmarks/RESULTS.md.
_FUSIONS = "xla_cpu_experimental_ynn_fusion_type"
_PRODUCTS = {_FUSIONS: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
_NOTHING = {_FUSIONS: ""}


def options(model: Any = None) -> dict[str, str]:
    """For `compiler_options` of `jax.jit`: what makes networks faster on this backend.

    Args:
      model: the network that is compiled; None if there is none.
    """
    if jax.default_backend() != "cpu" or not _is_known():
        return {}
    has_blocks = hasattr(model, "shares_blocks") and jnp.dtype(model.dtype) == jnp.float32
    return dict(_NOTHING if has_blocks else _PRODUCTS)


@functools.cache
def _is_known() -> bool:
    """Whether XLA takes them: experimental options, that a release may come without."""
    try:
        for known in (_PRODUCTS, _NOTHING):
            jax.jit(lambda: 0, compiler_options=known).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
