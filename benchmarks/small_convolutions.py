"""Convolutions of maps smaller than their kernel: Flax's `nn.Conv` and the project's `Conv`.

    python -m benchmarks.small_convolutions [--batch 16] [--rounds 5]

The two alternate; figures are CPU time, medians over the rounds. Needs no data set.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fer_jax.models.layers.conv import Conv
from fer_jax.runtime import xla_options

LAYERS = {  # side, channels, stride; from ResNet-18 at 48 px, VGG16 and ResNet-18 at 32 px
    "3x3 stride 2, 3 x 3 x 256 to 2 x 2 x 512": (3, 256, 2),
    "3x3, 2 x 2 x 512 to the same": (2, 512, 1),
    "3x3, 1 x 1 x 512 to the same": (1, 512, 1),
}


def make_functions(
    make_conv: Callable[..., nn.Module], side: int, channels: int, stride: int, batch: int
) -> list[Callable[[], Any]]:
    """Returns the jitted convolution and its gradient for both arguments, with bound arguments."""
    conv = make_conv(512, (3, 3), strides=stride, padding=1)
    maps = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
    variables = conv.init(jax.random.key(1), maps)
    forward = jax.jit(conv.apply, compiler_options=xla_options.for_model())
    loss = lambda *arguments: (jnp.asarray(conv.apply(*arguments)) ** 2).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=xla_options.for_model())
    return [functools.partial(function, variables, maps) for function in (forward, gradient)]


def cpu_seconds(function: Callable[[], Any]) -> float:
    """Returns the CPU time of a call, s."""
    start = time.process_time()
    jax.block_until_ready(function())
    return time.process_time() - start


def main() -> None:
    """Prints a line per layer and direction."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name, layer in LAYERS.items():
        functions = [make_functions(kind, *layer, options.batch) for kind in (nn.Conv, Conv)]
        for pair in functions:
            for function in pair:
                cpu_seconds(function)  # compiles
        rounds = [
            [[cpu_seconds(function) for function in pair] for pair in functions]
            for _ in range(options.rounds)
        ]
        for index, direction in enumerate(("forward", "forward and gradient")):
            xla, ours = (
                1000 * statistics.median(seconds[kind][index] for seconds in rounds)
                for kind in (0, 1)
            )
            ratio = xla / ours
            print(
                f"{name}, {direction}: XLA {xla:.1f} ms, fer_jax {ours:.1f} ms, {ratio:.0f} times"
            )


if __name__ == "__main__":
    main()
