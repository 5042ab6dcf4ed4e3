"""fer_jax: the program of steps that trains, and the one that classifies."""

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
from fer_jax.data.augment import Augmentation
from fer_jax.data.preprocess import Preprocessing
from fer_jax.models.registry import create_model
from fer_jax.runtime import compile_cache, sharding
from fer_jax.runtime import xla_options as compiler
from fer_jax.training.dispatch import choose_steps, make_chunk_program
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import count_parameters, create_state
from fer_jax.training.step import make_step_function

OFF = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))


class Held:
    """A feed whose batches are on the device already: the items are the batches."""

    source: dict[str, jax.Array] = {}  # noqa: RUF012

    def put(self, rows: np.ndarray) -> dict[str, jax.Array]:
        """Not asked for."""
        raise NotImplementedError

    def pick(self, source: Any, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The item."""
        del source
        return item


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Any:
    """The work of a task; as many threads as the process may have cores."""
    del threads
    if jax.default_backend() != device:
        raise RuntimeError(f"expected JAX on {device}, found {jax.default_backend()}")
    if device == "gpu":
        # Where a float32 product is tf32's by default. A CPU has no tf32: users' own setting.
        jax.config.update("jax_default_matmul_precision", settings["products"])
    compile_cache.enable()
    model = create_model(task.model, CLASSES, dtype=jnp.dtype(settings["dtype"]))
    return {"train": Training, "infer": Inference}[task.kind](model, task)


class OnDevice:
    """What training and inference share."""

    def device_peak_bytes(self) -> int | None:
        """Of the accelerator; None on CPUs, which do not tell."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


class Training(OnDevice):
    """Steps, as many in a program as training takes on this device."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        mesh, optimizer = sharding.one_device_mesh(), optax.adam(1e-3)
        chunk = choose_steps(None, 16, jax.default_backend())
        self.at_once = chunk * task.batch
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
        self._program = make_chunk_program(step, Held(), mesh, compiler.options(model))

    def run(self, steps: int) -> None:
        """So many programs: of one step each on CPUs."""
        for _ in range(steps):
            self._state, metrics = self._program(self._state, Held.source, self._items)
        jax.block_until_ready((self._state, metrics))


class Inference(OnDevice):
    """Probabilities of a uint8 batch, fetched."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        state = create_state(model, optax.identity(), task.size, 0)
        self.facts = _facts(model, task, state.params, backward=False)
        self.at_once = task.batch
        normalized = Preprocessing(task.size, "unit").normalized
        self._variables = jax.device_put(state.variables)
        shape = (task.batch, task.size, task.size, 3)
        self._images = jax.device_put(np.random.default_rng(0).integers(0, 256, shape, np.uint8))

        def program(variables: Any, images: jax.Array) -> jax.Array:
            logits = jnp.asarray(model.apply(variables, normalized(images), train=False))
            return jax.nn.softmax(logits)

        self._program = jax.jit(program, compiler_options=compiler.options(model))

    def run(self, steps: int) -> None:
        """So many batches, each waited for, as someone who wants the answer does."""
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
    """Multiplications and additions of the convolutions and dense layers for one image.

    Counted from the layers' shapes, whatever way they are computed. Backward is twice forward,
    less the gradient by the picture, which nobody takes.
    """

    def outputs(images: jax.Array) -> Any:
        rngs = {"params": jax.random.key(0)}
        variables = model.init(rngs, images, train=False)
        _, seen = model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        return variables["params"], seen["intermediates"]

    picture = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    params, seen = jax.eval_shape(outputs, picture)
    total = first = 0
    for path, leaf in flax.traverse_util.flatten_dict(params).items():
        if path[-1] != "kernel":
            continue
        at = seen
        for name in path[:-1]:
            at = at[name]
        (output,) = at["__call__"]
        here = 2 * leaf.size * math.prod(output.shape[1:-1])
        total += here
        if leaf.ndim == 4 and leaf.shape[2] == 3:
            first = here
    return 3 * total - first if backward else total
