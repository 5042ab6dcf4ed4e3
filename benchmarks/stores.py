"""Training speed with images in device memory, in main memory, and decoded on demand.

    python -m benchmarks.stores [--model light_vgg] [--size 64] [--batch 64] [--steps 12]

Uses the training loop's sampler, prefetch and chunk program with augmentation and Adam. The stores
alternate for `--rounds` rounds; the first chunk of a round is not counted. Needs no data set: the
images are noise, JPEG files in memory for the stream. Prints images per second, the share of time
that the loop waited for data, and CPU time per image (which depends less on other work on the
machine), medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any

import cv2
import jax
import numpy as np
import optax

from fer_jax.data.feed import Prefetch, make_feed
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records, Split, decode_image
from fer_jax.data.sampling import BatchSampler
from fer_jax.data.store import HostStore, Placement, Store, StreamStore
from fer_jax.models.registry import create_model
from fer_jax.runtime import sharding
from fer_jax.settings import Augmentation
from fer_jax.training.dispatch import ChunkPlan, choose_steps, make_chunk_program
from fer_jax.training.recipe import Recipe
from fer_jax.training.state import create_state
from fer_jax.training.step import make_step_function

STORES = ("device", "host", "stream")
CLASSES, RECORDS = 7, 512


def make_stores(size: int) -> dict[str, Store]:
    """Returns each store by name, with the same noise as arrays or JPEG files."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (RECORDS, size, size, 3), np.uint8)
    labels = rng.integers(0, CLASSES, RECORDS).astype(np.int32)
    encoded = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
    ids = tuple(map(str, range(RECORDS)))
    names = tuple(map(str, range(CLASSES)))
    records = Records(images, labels, ids, ids, names, "")
    split = Split(labels, ids, ids, names, "", lambda row: decode_image(encoded[row], ids[row]))
    host = HostStore(records)
    return {"device": host, "host": host, "stream": StreamStore(split)}


class Runner:
    """Trains with one store, a round at a time."""

    def __init__(self, name: str, store: Store, options: argparse.Namespace) -> None:
        self.mesh = sharding.data_mesh()
        platform = self.mesh.devices.flat[0].platform
        self.chunk = choose_steps(options.chunk, 16, platform)
        self.feed = make_feed(store, Placement(name, False, ""), self.mesh)
        model, optimizer = create_model(options.model, CLASSES), optax.adam(1e-3)
        step = make_step_function(
            model, optimizer, Preprocessing(options.size, "standardize"), Augmentation(),
            Recipe(), 0,
        )  # fmt: skip
        self.program = make_chunk_program(step, self.feed, self.mesh)
        state = create_state(model, optimizer, options.size, 0)
        self.state = sharding.replicate(state, self.mesh)
        self.sampler = BatchSampler(store.labels, options.batch, 0)
        self.steps, self.batch = -(-options.steps // self.chunk) * self.chunk, options.batch

    def round(self) -> tuple[float, float, float]:
        """Returns images/s, share of waiting and CPU ms/image of a round after its first chunk."""
        plan = ChunkPlan(self.chunk, (self.chunk + self.steps,))
        with Prefetch(
            lambda first, last: self.feed.put(self.sampler.rows(first, last - first)),
            plan.end_after,
        ) as data:
            start, cpu_start, waited, pending, first = 0.0, 0.0, 0.0, None, 0
            while (end := plan.end_after(first)) is not None:
                items = data.take(first)
                self.state, metrics = self.program(self.state, self.feed.source, items)
                if pending is not None:
                    jax.device_get(pending)  # one chunk late, like the training loop
                if first == 0:
                    jax.block_until_ready(metrics)
                    start, cpu_start = time.perf_counter(), time.process_time()
                    waited = data.waited
                pending, first = metrics, end
            jax.block_until_ready(self.state)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        images = self.steps * self.batch
        return images / seconds, (data.waited - waited) / seconds, 1000 * cpu / images


def alternate(runners: Mapping[str, Runner], rounds: int) -> dict[str, list[Any]]:
    """Returns what each runner's `round` measured, after a round in which it compiles."""
    results: dict[str, list[Any]] = {name: [] for name in runners}
    for number in range(rounds + 1):
        for name, runner in runners.items():
            figures = runner.round()
            if number:
                results[name].append(figures)
    return results


def main() -> None:
    """Prints a line per store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="light_vgg")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--chunk", type=int, help="steps per dispatch; default: as in training")
    options = parser.parse_args()
    stores = make_stores(options.size)
    runners = {name: Runner(name, stores[name], options) for name in STORES}
    results = alternate(runners, options.rounds)
    chunk, kind = runners["host"].chunk, jax.devices()[0].device_kind
    title = f"{options.model}, {options.size} px, batch {options.batch}"
    print(f"{title}, {chunk} steps per dispatch, {kind}")
    for name, rows in results.items():
        ratios = [row[0] / host[0] for row, host in zip(rows, results["host"], strict=True)]
        rate, waited, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"{name:>7} {rate:9.1f} images/s, {statistics.median(ratios):.2f} of host, "
            f"waiting {waited:.1%}, {cpu:.2f} CPU ms/image"
        )


if __name__ == "__main__":
    main()
