"""Convolutions of maps smaller than their kernel: XLA's own form against the networks'.

    python -m benchmarks.small_maps [--batch 16] [--rounds 5]

The forms alternate; the figures are processor time, medians over the rounds. Needs no data set.
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
from fer_jax.runtime import xla_options as compiler

LAYERS = {  # of ResNet-18 at 48 pixels, and of VGG16 and ResNet-18 at 32: side, channels, stride
    "3x3 stride 2, 3 x 3 x 256 to 2 x 2 x 512": (3, 256, 2),
    "3x3, 2 x 2 x 512 to the same": (2, 512, 1),
    "3x3, 1 x 1 x 512 to the same": (1, 512, 1),
}


def steps_of(
    kind: Callable[..., nn.Module], side: int, channels: int, stride: int, batch: int
) -> list[Callable[[], Any]]:
    """The convolution and its gradient by both arguments, compiled, with their arguments."""
    conv = kind(512, (3, 3), strides=stride, padding=1)
    maps = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
    variables = conv.init(jax.random.key(1), maps)
    forward = jax.jit(conv.apply, compiler_options=compiler.options())
    loss = lambda *given: (jnp.asarray(conv.apply(*given)) ** 2).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=compiler.options())
    return [functools.partial(step, variables, maps) for step in (forward, gradient)]


def seconds(step: Callable[[], Any]) -> float:
    """Processor time of a call, s."""
    began = time.process_time()
    jax.block_until_ready(step())
    return time.process_time() - began


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name, layer in LAYERS.items():
        forms = [steps_of(kind, *layer, options.batch) for kind in (nn.Conv, Conv)]
        for form in forms:
            for step in form:
                seconds(step)  # compiles
        taken = [
            [[seconds(step) for step in form] for form in forms] for _ in range(options.rounds)
        ]
        for index, part in enumerate(("forward", "forward and gradient")):
            xla, ours = (
                1000 * statistics.median(one[form][index] for one in taken) for form in (0, 1)
            )
            print(f"{name}, {part}: XLA's {xla:.1f} ms, ours {ours:.1f} ms, {xla / ours:.0f} times")


if __name__ == "__main__":
    main()
