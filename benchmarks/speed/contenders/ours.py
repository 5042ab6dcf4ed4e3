"""fer_jax: the training step of `fer-jax train`, and inference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.speed.tasks import CLASSES, Task
from fer_jax.data.augment import OFF
from fer_jax.data.preprocess import Preprocessing
from fer_jax.models.registry import create_model
from fer_jax.runtime import compile_cache, sharding, xla_options
from fer_jax.training.dispatch import choose_steps, make_chunk_program
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import count_parameters, create_state
from fer_jax.training.step import make_step_function


class ResidentFeed:
    """A feed whose items are batches that are already on the device."""

    source: dict[str, jax.Array] = {}  # noqa: RUF012

    def put(self, rows: np.ndarray) -> dict[str, jax.Array]:
        """Unused."""
        raise NotImplementedError

    def pick(self, source: Any, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns the item."""
        del source
        return item


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Any:
    """Returns the workload of a task. XLA uses as many threads as the process has cores."""
    del threads
    if jax.default_backend() != device:
        raise RuntimeError(f"expected JAX on {device}, found {jax.default_backend()}")
    if device == "gpu":
        # GPUs compute float32 products in tf32 by default. CPUs have no tf32.
        jax.config.update("jax_default_matmul_precision", settings["products"])
    compile_cache.enable()
    model = create_model(task.model, CLASSES, dtype=jnp.dtype(settings["dtype"]))
    return {"train": Training, "infer": Inference}[task.kind](model, task)


class Workload:
    """Base of training and inference."""

    def device_peak_bytes(self) -> int | None:
        """Returns the accelerator's peak memory; None on CPUs, which do not report it."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


class Training(Workload):
    """Training steps, with as many steps per program as `fer-jax train` uses on this device."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        mesh, optimizer = sharding.one_device_mesh(), optax.adam(1e-3)
        chunk = choose_steps(None, 16, jax.default_backend())
        self.images_per_step = chunk * task.batch
        rng = np.random.default_rng(0)
        shape = (chunk, task.batch)
        items = {
            "image": rng.integers(0, 256, (*shape, task.size, task.size, 3), np.uint8),
            "label": rng.integers(0, CLASSES, shape).astype(np.int32),
        }
        self._items = jax.device_put(items, sharding.steps_sharding(mesh))
        state = create_state(model, optimizer, task.size, 0)
        self.facts = _facts(model, task, state.params, backward=True)
        self._state = sharding.replicate(state, mesh)
        preprocessing = Preprocessing(task.size, "unit")
        step = make_step_function(model, optimizer, preprocessing, OFF, PLAIN, 0)
        self._program = make_chunk_program(step, ResidentFeed(), mesh, xla_options.for_model(model))

    def run(self, steps: int) -> None:
        """Runs `steps` programs, of one training step each on CPUs."""
        for _ in range(steps):
            self._state, metrics = self._program(self._state, ResidentFeed.source, self._items)
        jax.block_until_ready((self._state, metrics))


class Inference(Workload):
    """Probabilities of a uint8 batch, fetched to the host."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        state = create_state(model, optax.identity(), task.size, 0)
        self.facts = _facts(model, task, state.params, backward=False)
        self.images_per_step = task.batch
        normalized = Preprocessing(task.size, "unit").normalized
        self._variables = jax.device_put(state.variables)
        shape = (task.batch, task.size, task.size, 3)
        self._images = jax.device_put(np.random.default_rng(0).integers(0, 256, shape, np.uint8))

        def program(variables: Any, images: jax.Array) -> jax.Array:
            logits = jnp.asarray(model.apply(variables, normalized(images), train=False))
            return jax.nn.softmax(logits)

        self._program = jax.jit(program, compiler_options=xla_options.for_model(model))

    def run(self, steps: int) -> None:
        """Runs `steps` batches and fetches each result."""
        for _ in range(steps):
            np.asarray(self._program(self._variables, self._images))


def _facts(model: nn.Module, task: Task, params: Any, backward: bool) -> dict[str, Any]:
    return {
        "parameters": count_parameters(params),
        "flops_per_image": flops(model, task.size, backward),
        "versions": {"jax": jax.__version__, "flax": flax.__version__},
        "device": jax.devices()[0].device_kind,
        "steps_per_program": choose_steps(None, 16, jax.default_backend()),
    }


def flops(model: nn.Module, size: int, backward: bool) -> int:
    """Counts multiplications and additions of the convolutions and dense layers for one image.

    Counted from the layers' shapes, independent of how they are computed. Backward is twice
    forward, without the gradient of the input image.
    """

    def outputs(images: jax.Array) -> Any:
        rngs = {"params": jax.random.key(0)}
        variables = model.init(rngs, images, train=False)
        _, captured = model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        return variables["params"], captured["intermediates"]

    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    params, intermediates = jax.eval_shape(outputs, image)
    total = first = 0
    for path, leaf in flax.traverse_util.flatten_dict(params).items():
        if path[-1] != "kernel":
            continue
        layer = intermediates
        for name in path[:-1]:
            layer = layer[name]
        (output,) = layer["__call__"]
        layer_flops = 2 * leaf.size * math.prod(output.shape[1:-1])
        total += layer_flops
        if leaf.ndim == 4 and leaf.shape[2] == 3:
            first = layer_flops
    return 3 * total - first if backward else total
