"""Max pooling's form against its speed: LightVGG's training step with each, in one run.

    python -m benchmarks.pooling [--size 64] [--batch 64] [--rounds 8]

The forms alternate, so that a machine whose speed drifts favours none; the figure to
quote is the ratio. Needs no data set.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import numpy as np
import optax

from fer_jax.data.augment import Augmentation
from fer_jax.data.preprocess import Preprocessing
from fer_jax.engine import sharding
from fer_jax.engine.recipe import PLAIN
from fer_jax.engine.state import create_state
from fer_jax.engine.steps import make_step_function, make_train_step
from fer_jax.models import light_vgg, pooling

STEPS = 4  # per round and form


def windowed(images: jax.Array) -> jax.Array:
    """The plain form, whose gradient is select-and-scatter."""
    return nn.max_pool(images, window_shape=(2, 2), strides=(2, 2))


FORMS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "windowed": windowed,
    "ours": pooling.max_pool_2x2,
}


def prepare(
    form: Callable[[jax.Array], jax.Array], size: int, batch: int
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """The compiled step with this pooling, a state, and a batch."""
    mesh = sharding.data_mesh()
    model, optimizer = light_vgg.LightVGG(classes=7), optax.adam(1e-3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
    labels = rng.integers(0, 7, batch).astype(np.int32)
    with mock.patch.object(light_vgg, "max_pool_2x2", form):
        state = sharding.replicate(create_state(model, optimizer, size, 0), mesh)
        function = make_step_function(
            model, optimizer, Preprocessing(size, "standardize"), Augmentation(), PLAIN, 0
        )
        step = make_train_step(function, mesh)
        data = sharding.put_batch({"image": images, "label": labels}, mesh)
        state, _ = step(state, data)  # traced and compiled here, while the form is in place
    return step, state, data


def main() -> None:
    """Prints the median seconds per step of each form and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    runs = {name: prepare(form, options.size, options.batch) for name, form in FORMS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(options.rounds):
        for name, (step, state, data) in runs.items():
            began = time.perf_counter()
            for _ in range(STEPS):
                state, metrics = step(state, data)
            jax.block_until_ready((state, metrics))
            seconds[name].append((time.perf_counter() - began) / STEPS)
            runs[name] = (step, state, data)
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:>10}  {median * 1e3:7.1f} ms/step  {options.batch / median:7.0f} images/s")
    pairs = zip(seconds["windowed"], seconds["ours"], strict=True)
    ratio = statistics.median(plain / ours for plain, ours in pairs)
    print(f"windowed / ours, median of {options.rounds} rounds: {ratio:.2f}")


if __name__ == "__main__":
    main()
