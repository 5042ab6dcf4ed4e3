"""The forms for CPUs against XLA's own: training steps without one of them each, in one run.

    python -m benchmarks.cpu_ops [--model light_vgg] [--size 100] [--batch 64] [--rounds 5]
        [--without pooling,few_channels] [--seconds 2]

The programs alternate, so that a machine whose speed drifts favours none; the figure to quote
is the ratio. Needs no data set.
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
from fer_jax.models.layers import (
    conv as convolution,
)
from fer_jax.models.layers import (
    cpu_ops,
)
from fer_jax.models.layers import (
    multi_pixel_conv,
)
from fer_jax.models.layers import (
    norm as normalization,
)
from fer_jax.models.layers import (
    pool as pooling,
)
from fer_jax.models.layers import (
    residual as blocks,
)
from fer_jax.models.layers import (
    sums,
)
from fer_jax.models.registry import MODELS, create_model
from fer_jax.runtime import huge_pages

OFF = mock.Mock(enabled=lambda: False, is_disabled=lambda: True)
Context = contextlib.AbstractContextManager[Any]
nothing = contextlib.nullcontext
WITHOUT: dict[str, Callable[[], Context]] = {
    "pooling": lambda: mock.patch.object(pooling, "cpu_ops", OFF),
    "products": lambda: mock.patch.object(convolution, "cpu_ops", OFF),  # and few_channels
    "few_channels": lambda: mock.patch.object(multi_pixel_conv, "is_faster", return_value=False),
    "normalization": lambda: mock.patch.object(normalization, "cpu_ops", OFF),
    "sums": lambda: mock.patch.object(sums, "cpu_ops", OFF),  # of normalization and norms too
    "blocks": lambda: mock.patch.object(blocks, "cpu_ops", OFF),
    "any": cpu_ops.disabled,
}


def prepare(name: str, size: int, batch: int, without: Context) -> ours.Training:
    """The step of the network `name`, traced and compiled in the context `without`."""
    with without:
        training = ours.Training(create_model(name, CLASSES), Task("train", name, size, batch))
        training.run(1)
    return training


def seconds(training: ours.Training, least: float) -> float:
    """Of a step: the mean of as many as take `least` seconds, behind one that warms up."""
    training.run(1)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < least:
        training.run(1)
        steps += 1
    return (time.perf_counter() - began) / steps


def main() -> None:
    """Prints images/s of each program, and its share of the one with all forms."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="light_vgg")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a program in a round")
    parser.add_argument(
        "--without", type=lambda text: text.split(","), default=list(WITHOUT),
        help=f"of {', '.join(WITHOUT)}",
    )  # fmt: skip
    options = parser.parse_args()
    if unknown := set(options.without) - set(WITHOUT):
        parser.error(f"expected --without of {', '.join(WITHOUT)}, found {', '.join(unknown)}")
    contexts: dict[str, Context] = {"all forms": nothing()}
    contexts |= {f"without {name}": WITHOUT[name]() for name in options.without}
    programs = {
        name: prepare(options.model, options.size, options.batch, context)
        for name, context in contexts.items()
    }
    rounds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, training in programs.items():
            rounds[name].append(seconds(training, options.seconds))
    for name, values in rounds.items():
        ratios = [all_ / each for all_, each in zip(rounds["all forms"], values, strict=True)]
        print(
            f"{name:>22}  {options.batch / statistics.median(values):8.2f} images/s, "
            f"{statistics.median(ratios):.2f} of all forms' speed"
        )


if __name__ == "__main__":
    huge_pages.restart()
    main()
