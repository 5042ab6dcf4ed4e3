"""3x3 convolutions by the oneDNN inside jaxlib, beside XLA's own: GFLOP per second of CPU time.

    python -m benchmarks.onednn

jaxlib for Linux on x86-64 contains oneDNN and calls it for HLO custom calls of certain names. The
names and their settings are not documented and may change with any release; a wrong setting ends
the process. fer_jax does not use them: this module measures what they would bring.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fer_jax.runtime import xla_options

SHAPES = (
    (128, 48, 24, 24), (128, 24, 48, 48), (128, 12, 96, 96), (128, 6, 192, 192), (64, 100, 8, 8),
    (64, 50, 16, 16), (8, 28, 256, 256), (8, 14, 512, 512),
)  # fmt: skip
"""Images, pixels of a side, channels and filters: a compact ResNet-18, LightVGG, VGG16."""

_MAPS = {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}
_KERNEL = {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1], "shape": []}
_WINDOW = {"size": [], "pad_left": [1, 1], "pad_right": [1, 1], "strides": [1, 1],
           "window_dilations": [1, 1]}  # fmt: skip


def _call(target: str, settings: dict[str, Any], result: jax.ShapeDtypeStruct, *inputs: Any) -> Any:
    """Calls an operation of oneDNN."""
    config = json.dumps({"outer_dimension_partitions": [], **settings})
    function = jax.ffi.ffi_call(
        f"__onednn${target}", result, custom_call_api_version=1, legacy_backend_config=config
    )
    return function(*inputs)


def onednn(maps: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves [B, H, W, C] with [3, 3, C, F] in oneDNN: [B, H, W, F]."""
    settings = {
        "dims": 4,
        "input": {"dims": 4, "data": _MAPS},
        "kernel": {"dims": 4, "filter": _KERNEL},
        "output": {"dims": 4, "data": _MAPS},
        "window": _WINDOW,
        "feature_groups": 1,
    }
    result = jax.ShapeDtypeStruct((*maps.shape[:3], kernel.shape[3]), maps.dtype)
    return _call("convolution", {"onednn_conv_config": settings}, result, maps, kernel)


def onednn_kernel_gradient(maps: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns float32[3, 3, C, F], one matrix product in oneDNN per pixel of the kernel."""
    height, width, channels = maps.shape[1:]
    padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    result = jax.ShapeDtypeStruct((channels, gradient.shape[3]), jnp.float32)
    settings = {"onednn_matmul_config": {"transpose_a": True, "transpose_b": False}}
    products = [
        _call(
            "matmul", settings, result,
            padded[:, row : row + height, column : column + width].reshape(-1, channels),
            gradient.reshape(-1, gradient.shape[3]),
        )
        for row in range(3) for column in range(3)
    ]  # fmt: skip
    return jnp.stack(products).reshape(3, 3, *result.shape)


def xla(maps: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves [B, H, W, C] with [3, 3, C, F] in XLA: [B, H, W, F]."""
    return jax.lax.conv_general_dilated(
        maps, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def xla_kernel_gradient(maps: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns [3, 3, C, F] by XLA's own transposition."""
    kernel = jnp.zeros((3, 3, maps.shape[3], gradient.shape[3]), maps.dtype)
    return jax.vjp(lambda kernel: xla(maps, kernel), kernel)[1](gradient)[0]


def seconds(function: Callable[..., jax.Array], *inputs: jax.Array) -> float:
    """Returns the CPU time of a call, of all threads: the median of five times eight calls."""
    function(*inputs).block_until_ready()
    times = []
    for _ in range(5):
        begun = os.times()
        for _ in range(8):  # one is hardly longer than a tick of the clock
            function(*inputs).block_until_ready()
        ended = os.times()
        times.append((ended.user + ended.system - begun.user - begun.system) / 8)
    return statistics.median(times)


def main() -> None:
    """Prints the table."""
    compiled = functools.partial(jax.jit, compiler_options=xla_options.for_model())
    print("| images, pixels, channels, filters | forward: XLA, oneDNN, in bfloat16 "
          "| kernel gradient: XLA, oneDNN, in bfloat16 |\n|---|---|---|")  # fmt: skip
    for images, side, channels, filters in SHAPES:
        keys = jax.random.split(jax.random.key(0), 3)
        maps = jax.random.normal(keys[0], (images, side, side, channels))
        kernel = jax.random.normal(keys[1], (3, 3, channels, filters))
        gradient = jax.random.normal(keys[2], (images, side, side, filters))
        work = 2e-9 * maps.size * 9 * filters
        low = [array.astype(jnp.bfloat16) for array in (maps, kernel, gradient)]
        forward, backward = [
            [
                work / seconds(compiled(function), *inputs)
                for function, inputs in (
                    (own, (maps, other)), (theirs, (maps, other)), (theirs, (low[0], small)),
                )
            ]
            for own, theirs, other, small in (
                (xla, onednn, kernel, low[1]),
                (xla_kernel_gradient, onednn_kernel_gradient, gradient, low[2]),
            )
        ]  # fmt: skip
        cells = ", ".join(map(str, (images, side, channels, filters)))
        rates = [", ".join(f"{rate:.0f}" for rate in part) for part in (forward, backward)]
        print(f"| {cells} | {rates[0]} | {rates[1]} |", flush=True)


if __name__ == "__main__":
    main()
