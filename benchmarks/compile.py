"""How long a network takes until it trains, cold and warm, and how fast it trains then.

    python -m benchmarks.compile [--model inception_resnet_v2] [--size 224] [--batch 4]

Two processes, one after the other, with a compile cache of their own that is empty for the
first. CPU s is what the process used until the first step was done: on a machine that does
other work too, the figure to compare. Needs no data set. What is measured is what training
does: initial values, the training step of a uint8 batch with augmentation and Adam, and its
speed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

STAGES = ("import", "initial values", "trace and lower", "compile or load", "first step")


def measure(model_name: str, size: int, batch: int, steps: int) -> dict[str, float]:
    """Seconds of each stage in this process, and images per second after them."""
    seconds, clock = {}, [time.perf_counter()]

    def lap(stage: str) -> None:
        now = time.perf_counter()
        seconds[stage], clock[0] = now - clock[0], now

    import jax
    import numpy as np
    import optax

    from fer_jax.data.augment import Augmentation
    from fer_jax.data.preprocess import Preprocessing
    from fer_jax.engine import compile_cache, sharding
    from fer_jax.engine.recipe import PLAIN
    from fer_jax.engine.state import create_state
    from fer_jax.engine.steps import make_step_function, make_train_step
    from fer_jax.models.registry import create_model

    compile_cache.enable()
    lap("import")
    model, optimizer, mesh = create_model(model_name, 7), optax.adam(1e-3), sharding.data_mesh()
    state = sharding.replicate(create_state(model, optimizer, size, 0), mesh)
    jax.block_until_ready(state)
    lap("initial values")
    preprocessing = Preprocessing(size, "standardize")
    function = make_step_function(model, optimizer, preprocessing, Augmentation(), PLAIN, 0)
    step: Any = make_train_step(function, mesh)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
    labels = rng.integers(0, 7, batch).astype(np.int32)
    data = sharding.put_batch({"image": images, "label": labels}, mesh)
    lowered = step.lower(state, data)
    lap("trace and lower")
    compiled = lowered.compile()
    lap("compile or load")
    state, metrics = compiled(state, data)
    jax.block_until_ready((state, metrics))
    lap("first step")
    seconds["CPU s"] = time.process_time()
    times = []
    for _ in range(steps):
        state, metrics = compiled(state, data)
        jax.block_until_ready((state, metrics))
        lap("step")
        times.append(seconds.pop("step"))
    return {**seconds, "images/s": batch / statistics.median(times)}


def main() -> None:
    """Prints a line for the cold and one for the warm start."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="inception_resnet_v2")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="measure in this process, once")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.model, options.size, options.batch, options.steps)))
        return
    print("start", *(f"{stage:>16}" for stage in (*STAGES, "total", "CPU s", "images/s")))
    with tempfile.TemporaryDirectory() as cache:
        for start in ("cold", "warm"):
            command = [sys.executable, "-m", "benchmarks.compile", *sys.argv[1:], "--here"]
            environment = os.environ | {"FER_JAX_CACHE": cache}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found = json.loads(done.stdout)
            figures = [found[stage] for stage in STAGES]
            figures += [sum(figures), found["CPU s"], found["images/s"]]
            print(f"{start:>5}", *(f"{figure:16.2f}" for figure in figures))


if __name__ == "__main__":
    main()
