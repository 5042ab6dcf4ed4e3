"""What the machine can do at all, as one library reaches it: matrix products and copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.speed.tasks import Task

SIDE = {"cpu": 2048, "gpu": 8192}  # of the square matrices
COPIED = {"cpu": 2**28, "gpu": 2**32}  # bytes
TIMES = 4  # in a row; the fastest counts, because it is a ceiling

Kernels = dict[str, Callable[[], Any]]


class Ceiling:
    """Measures a library's kernels: float32 and bfloat16 products, and a copy."""

    def __init__(self, kernels: Kernels, device: str, versions: dict[str, str]) -> None:
        self._kernels, self._device = kernels, device
        self.facts = {"versions": versions}
        for kernel in kernels.values():
            kernel()

    def measure(self) -> dict[str, float]:
        """GFLOP/s of each product by its type, GB/s of the copy, read and written."""
        work = dict.fromkeys(self._kernels, 2 * SIDE[self._device] ** 3)
        work["copy"] = 2 * COPIED[self._device]
        return {name: work[name] / _fastest(kernel) / 1e9 for name, kernel in self._kernels.items()}


def _fastest(kernel: Callable[[], Any]) -> float:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        kernel()
        taken.append(time.perf_counter() - began)
    return min(taken)


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Ceiling:
    """The ceiling that the library of the settings reaches; the task does not matter."""
    del task
    side, length = SIDE[device], COPIED[device] // 4
    library = settings["library"]
    made = {"numpy": _numpy, "torch": _torch, "jax": _jax}[library]
    return made(side, length, device, threads)


def _numpy(side: int, length: int, device: str, threads: int) -> Ceiling:
    del threads
    a, b = (np.random.default_rng(0).random((side, side), np.float32) for _ in range(2))
    read, written = np.ones(length, np.float32), np.empty(length, np.float32)
    kernels: Kernels = {"float32": lambda: a @ b, "copy": lambda: np.copyto(written, read)}
    return Ceiling(kernels, device, {"numpy": np.__version__})


def _torch(side: int, length: int, device: str, threads: int) -> Ceiling:
    import torch

    torch.set_num_threads(threads)
    at = "cuda" if device == "gpu" else "cpu"
    a = torch.rand(side, side, device=at)
    halved = a.bfloat16()
    read, written = torch.ones(length, device=at), torch.empty(length, device=at)

    def waited(kernel: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: (kernel(), torch.cuda.synchronize() if at == "cuda" else None)

    def tf32() -> None:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.mm(a, a)
        torch.backends.cuda.matmul.allow_tf32 = False

    kernels = {
        "float32": waited(lambda: torch.mm(a, a)),
        "bfloat16": waited(lambda: torch.mm(halved, halved)),
        "copy": waited(lambda: written.copy_(read)),
    }
    if at == "cuda":
        kernels["tf32"] = waited(tf32)
    return Ceiling(kernels, device, {"torch": torch.__version__})


def _jax(side: int, length: int, device: str, threads: int) -> Ceiling:
    import jax
    import jax.numpy as jnp

    del threads
    if jax.default_backend() != device:
        raise RuntimeError(f"expected JAX on {device}, found {jax.default_backend()}")
    a = jax.random.uniform(jax.random.key(0), (side, side))
    halved, read = a.astype(jnp.bfloat16), jnp.ones(length)

    def product(precision: str) -> Any:
        return jax.jit(lambda x: jnp.matmul(x, x, precision=precision))

    exact, copy = product("highest"), jax.jit(lambda x: x + 1)
    kernels = {
        "float32": lambda: exact(a).block_until_ready(),
        "bfloat16": lambda: exact(halved).block_until_ready(),
        "copy": lambda: copy(read).block_until_ready(),
    }
    if device == "gpu":
        tensor = product("tensorfloat32")
        kernels["tf32"] = lambda: tensor(a).block_until_ready()
    return Ceiling(kernels, device, {"jax": jax.__version__})
