"""fer_jax: images from each store to the device, and augmentation on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed import images as test_images
from benchmarks.speed.tasks import CLASSES, Task
from fer_jax.data.augment import augment
from fer_jax.data.feed import Prefetch, make_feed
from fer_jax.data.records import Records, Split, decode_image
from fer_jax.data.sampling import BatchSampler
from fer_jax.data.store import HostStore, Placement, Store, StreamStore
from fer_jax.runtime import sharding, xla_options
from fer_jax.settings import Augmentation
from fer_jax.training.dispatch import ChunkPlan

FACTS = {"parameters": None, "versions": {"jax": jax.__version__}}


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Any:
    """Returns the workload of a task: loading from `settings["store"]`, or augmentation."""
    del device
    if task.kind == "augment":
        return Augmenting(task)
    return Loading(task, settings["store"], threads)


def _store(name: str, size: int, threads: int) -> Store:
    ids, names = tuple(map(str, range(test_images.COUNT))), tuple(map(str, range(CLASSES)))
    labels = np.arange(test_images.COUNT, dtype=np.int32) % CLASSES
    if name != "stream":
        return HostStore(Records(test_images.decoded(size), labels, ids, ids, names, ""))
    files = test_images.encoded(size)
    read = lambda row: decode_image(files[row], ids[row])  # noqa: E731
    return StreamStore(Split(labels, ids, ids, names, "", read), threads)


class Loading:
    """Batches on the device, by the training loop's sampler, prefetch and feed."""

    def __init__(self, task: Task, name: str, threads: int) -> None:
        self.images_per_step, self.facts = task.batch, FACTS
        store, mesh = _store(name, task.size, threads), sharding.one_device_mesh()
        self._feed = make_feed(store, Placement(name, False, ""), mesh)
        self._sampler = BatchSampler(store.labels, task.batch, 0)

        def program(source: Any, items: Any) -> Any:
            return self._feed.pick(source, jax.tree.map(lambda leaf: leaf[0], items))

        self._pick = jax.jit(program)

    def run(self, steps: int) -> None:
        """Brings `steps` batches to the device."""
        plan = ChunkPlan(1, (steps,))
        with Prefetch(
            lambda begin, end: self._feed.put(self._sampler.rows(begin, end - begin)),
            plan.end_after,
        ) as data:
            for step in range(steps):
                batch = data.take(step)
                if self._feed.source:  # the device store gathers its images on the device
                    batch = self._pick(self._feed.source, batch)
                jax.block_until_ready(batch)


class Augmenting:
    """Default augmentation of a batch on the device; in training it is part of the step."""

    def __init__(self, task: Task) -> None:
        self.images_per_step, self.facts = task.batch, FACTS
        self._images = jnp.asarray(test_images.decoded(task.size)[: task.batch])
        rows = jnp.arange(task.batch)

        def program(images: jax.Array, step: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.key(0), step)
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)
            return augment(images, keys, Augmentation())

        self._program = jax.jit(program, compiler_options=xla_options.for_model())

    def run(self, steps: int) -> None:
        """Augments `steps` batches."""
        for step in range(steps):
            self._program(self._images, jnp.int32(step)).block_until_ready()
