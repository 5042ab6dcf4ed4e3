"""Cost of augmentation: LightVGG's training step with and without it, and each transform alone.

    python -m benchmarks.augmentation [--size 100] [--batch 64] [--rounds 5]

The variants alternate, so that drifting machine speed favors none; quote the share of the step. On
CPUs the clock is the CPU time of the process, which depends little on other work on the machine.
Needs no data set.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fer_jax.data.augment import CHANGES, OFF, augment
from fer_jax.data.mixing import mix
from fer_jax.data.preprocess import Preprocessing
from fer_jax.models.light_vgg import LightVGG
from fer_jax.runtime import sharding
from fer_jax.settings import Augmentation
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import create_state
from fer_jax.training.step import make_step_function, make_train_step

STEPS = 3  # per round and variant
STRONG = Augmentation(tint=0.05, erase=0.25, mixup=0.4, cutmix=0.4)
VARIANTS = {"no augmentation": OFF, "defaults": Augmentation(), "all transforms": STRONG}


def make_batch(size: int, batch: int) -> dict[str, np.ndarray]:
    """Returns random images and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
    return {"image": images, "label": rng.integers(0, 7, batch).astype(np.int32)}


def make_step_runner(settings: Augmentation, data: dict[str, np.ndarray]) -> Callable[[], None]:
    """Returns a compiled function that runs STEPS training steps."""
    size, mesh = data["image"].shape[1], sharding.data_mesh()
    model, optimizer = LightVGG(classes=7), optax.adam(1e-3)
    pixels = Preprocessing(size, "standardize")
    step = make_train_step(make_step_function(model, optimizer, pixels, settings, PLAIN, 0), mesh)
    states: list[Any] = [sharding.replicate(create_state(model, optimizer, size, 0), mesh)]
    placed = sharding.put_batch(data, mesh)

    def run() -> None:
        for _ in range(STEPS):
            states[0], _ = step(states[0], placed)
        jax.block_until_ready(states[0])

    run()
    return run


def make_augment_runner(settings: Augmentation, data: dict[str, np.ndarray]) -> Callable[[], None]:
    """Returns a compiled function that augments the batch STEPS times."""
    keys = jax.random.split(jax.random.key(0), len(data["label"]))

    def program(images: jax.Array, labels: jax.Array, keys: jax.Array) -> Any:
        return mix(augment(images, keys, settings), labels, keys, settings)

    compiled = jax.jit(program)
    images, labels = jnp.asarray(data["image"]), jnp.asarray(data["label"])

    def run() -> None:
        for _ in range(STEPS):
            jax.block_until_ready(compiled(images, labels, keys))

    run()
    return run


def alternate(runners: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds per step of each runner in each round."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            start = clock()
            run()
            seconds[name].append((clock() - start) / STEPS)
    return seconds


def main() -> None:
    """Prints the time of the step in each variant, then that of each transform alone."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = make_batch(options.size, options.batch)
    device = jax.devices()[0].device_kind
    print(f"light_vgg, {options.size} px, batch {options.batch}, {device}: training step")
    runners = {name: make_step_runner(variant, data) for name, variant in VARIANTS.items()}
    steps = alternate(runners, options.rounds)
    plain = steps["no augmentation"]
    for name, values in steps.items():
        median = statistics.median(values)
        ratios = (value / base for value, base in zip(values, plain, strict=True))
        overhead = statistics.median(ratios) - 1
        print(f"  {name:16} {median * 1e3:8.1f} ms  {overhead:+7.1%}")
    strongest = {"rotation": 10.0, "blur": 0.008, "noise": 0.02}
    changes: list[dict[str, Any]] = [{name: strongest.get(name, 0.25)} for name in CHANGES]
    alone = {next(iter(one)): dataclasses.replace(OFF, **one) for one in changes}
    print("each transform alone, per image, and its share of the step without augmentation")
    runners = {name: make_augment_runner(settings, data) for name, settings in alone.items()}
    for name, values in alternate(runners, options.rounds).items():
        median = statistics.median(values)
        share = median / statistics.median(plain)
        print(f"  {name:16} {median / options.batch * 1e6:8.1f} us  {share:7.1%}")


if __name__ == "__main__":
    main()
