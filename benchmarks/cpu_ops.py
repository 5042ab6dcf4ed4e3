"""Contribution of each CPU operation: a training step with all of them, and without each one.

    python -m benchmarks.cpu_ops [--model light_vgg] [--size 100] [--batch 64] [--rounds 5]
        [--without pool,multi_pixel_conv] [--seconds 2]

The programs alternate, so that drifting machine speed favors none; quote the ratio. Needs no data
set. The operations are in fer_jax/models/layers.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from benchmarks.speed.contenders import ours
from benchmarks.speed.tasks import CLASSES, Task
from fer_jax.models.layers import conv, cpu_ops, multi_pixel_conv, norm, pool, residual, sums
from fer_jax.models.registry import MODELS, create_model
from fer_jax.runtime import huge_pages

DISABLED = mock.Mock(enabled=lambda: False, is_disabled=lambda: True)
Context = contextlib.AbstractContextManager[Any]
WITHOUT: dict[str, Callable[[], Context]] = {
    "pool": lambda: mock.patch.object(pool, "cpu_ops", DISABLED),
    "conv": lambda: mock.patch.object(conv, "cpu_ops", DISABLED),  # multi_pixel_conv too
    "multi_pixel_conv": lambda: mock.patch.object(
        multi_pixel_conv, "is_faster", return_value=False
    ),
    "norm": lambda: mock.patch.object(norm, "cpu_ops", DISABLED),
    "sums": lambda: mock.patch.object(sums, "cpu_ops", DISABLED),  # in BatchNorm and norms too
    "residual": lambda: mock.patch.object(residual, "cpu_ops", DISABLED),
    "all": cpu_ops.disabled,
}
"""Contexts in which a program is traced without an operation, by name."""


def prepare(name: str, size: int, batch: int, context: Context) -> ours.Training:
    """Returns the training step of network `name`, traced and compiled in `context`."""
    with context:
        training = ours.Training(create_model(name, CLASSES), Task("train", name, size, batch))
        training.run(1)
    return training


def step_seconds(training: ours.Training, duration: float) -> float:
    """Returns the mean time of the steps that take `duration` seconds, after a warm-up step."""
    training.run(1)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < duration:
        training.run(1)
        steps += 1
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Prints the images/s of each program, and its ratio to the program with all operations."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="light_vgg")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per program and round")
    parser.add_argument(
        "--without", type=lambda text: text.split(","), default=list(WITHOUT),
        help=f"of {', '.join(WITHOUT)}",
    )  # fmt: skip
    options = parser.parse_args()
    if unknown := set(options.without) - set(WITHOUT):
        parser.error(f"expected --without of {', '.join(WITHOUT)}, found {', '.join(unknown)}")
    contexts: dict[str, Context] = {"baseline": contextlib.nullcontext()}
    contexts |= {f"without {name}": WITHOUT[name]() for name in options.without}
    programs = {
        name: prepare(options.model, options.size, options.batch, context)
        for name, context in contexts.items()
    }
    rounds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, training in programs.items():
            rounds[name].append(step_seconds(training, options.seconds))
    for name, seconds in rounds.items():
        ratios = [base / value for base, value in zip(rounds["baseline"], seconds, strict=True)]
        print(
            f"{name:>24}  {options.batch / statistics.median(seconds):8.2f} images/s, "
            f"{statistics.median(ratios):.2f} of the baseline's speed"
        )


if __name__ == "__main__":
    huge_pages.restart()
    main()
