"""What XLA is told when it compiles the programs that training and evaluation repeat."""

from __future__ import annotations

import functools

import jax

# By default XLA gives YNNPACK convolutions, matrix products and reductions on CPU. Eigen's
# convolutions are faster than its, and reading a program back from the compile cache searches the
# whole program once for each operation of YNNPACK; custom_cnn's large product is faster with it.
# Figures: benchmarks/RESULTS.md.
_CPU = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


@functools.cache
def options() -> dict[str, str]:
    """For `compiler_options` of `jax.jit`: what makes networks faster on this backend."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=_CPU).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}  # an experimental option: a release of XLA may come without it
    return _CPU
