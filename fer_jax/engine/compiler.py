"""What XLA is told when it compiles the programs that training and evaluation repeat."""

from __future__ import annotations

import functools

import jax

# YNNPACK's convolutions are the default on CPU and slower than Eigen's there (figures in
# benchmarks/RESULTS.md); besides, reading a program back from the compile cache searches the whole
# program once for each operation of YNNPACK. Empty is: for no kind of operation.
_CPU = {"xla_cpu_experimental_ynn_fusion_type": ""}


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
