"""Speed limits of the machine as one library reaches them: matrix products and copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.speed.tasks import Task

SIDE = {"cpu": 2048, "gpu": 8192}  # of the square matrices
COPY_BYTES = {"cpu": 2**28, "gpu": 2**32}
REPEATS = 4  # the fastest counts

Kernels = dict[str, Callable[[], Any]]


class Ceiling:
    """Measures a library's matrix products per precision, and its copy."""

    def __init__(self, kernels: Kernels, device: str, versions: dict[str, str]) -> None:
        self._kernels, self._device = kernels, device
        self.facts = {"versions": versions}
        for kernel in kernels.values():
            kernel()

    def measure(self) -> dict[str, float]:
        """Returns GFLOP/s of each product by precision, and GB/s (read and write) of the copy."""
        work = dict.fromkeys(self._kernels, 2 * SIDE[self._device] ** 3)
        work["copy"] = 2 * COPY_BYTES[self._device]
        return {name: work[name] / _fastest(kernel) / 1e9 for name, kernel in self._kernels.items()}


def _fastest(kernel: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        kernel()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Ceiling:
    """Returns the ceiling measurement of `settings["library"]`; ignores the task."""
    del task
    side, length = SIDE[device], COPY_BYTES[device] // 4
    library = settings["library"]
    make_library = {"numpy": _numpy, "torch": _torch, "jax": _jax}[library]
    return make_library(side, length, device, threads)


def _numpy(side: int, length: int, device: str, threads: int) -> Ceiling:
    del threads
    a, b = (np.random.default_rng(0).random((side, side), np.float32) for _ in range(2))
    read, written = np.ones(length, np.float32), np.empty(length, np.float32)
    kernels: Kernels = {"float32": lambda: a @ b, "copy": lambda: np.copyto(written, read)}
    return Ceiling(kernels, device, {"numpy": np.__version__})


def _torch(side: int, length: int, device: str, threads: int) -> Ceiling:
    import torch

    torch.set_num_threads(threads)
    place = "cuda" if device == "gpu" else "cpu"
    a = torch.rand(side, side, device=place)
    a_bf16 = a.bfloat16()
    read, written = (
        torch.ones(length, device=place),
        torch.empty(length, device=place),
    )

    def synchronized(kernel: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: (kernel(), torch.cuda.synchronize() if place == "cuda" else None)

    def tf32() -> None:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.mm(a, a)
        torch.backends.cuda.matmul.allow_tf32 = False

    kernels = {
        "float32": synchronized(lambda: torch.mm(a, a)),
        "bfloat16": synchronized(lambda: torch.mm(a_bf16, a_bf16)),
        "copy": synchronized(lambda: written.copy_(read)),
    }
    if place == "cuda":
        kernels["tf32"] = synchronized(tf32)
    return Ceiling(kernels, device, {"torch": torch.__version__})


def _jax(side: int, length: int, device: str, threads: int) -> Ceiling:
    import jax
    import jax.numpy as jnp

    del threads
    if jax.default_backend() != device:
        raise RuntimeError(f"expected JAX on {device}, found {jax.default_backend()}")
    a = jax.random.uniform(jax.random.key(0), (side, side))
    a_bf16, read = a.astype(jnp.bfloat16), jnp.ones(length)

    def product(precision: str) -> Any:
        return jax.jit(lambda x: jnp.matmul(x, x, precision=precision))

    exact, copy = product("highest"), jax.jit(lambda x: x + 1)
    kernels = {
        "float32": lambda: exact(a).block_until_ready(),
        "bfloat16": lambda: exact(a_bf16).block_until_ready(),
        "copy": lambda: copy(read).block_until_ready(),
    }
    if device == "gpu":
        tf32 = product("tensorfloat32")
        kernels["tf32"] = lambda: tf32(a).block_until_ready()
    return Ceiling(kernels, device, {"jax": jax.__version__})
