"""3x3 convolutions by the oneDNN inside jaxlib, beside XLA's own.

    python -m benchmarks.onednn convolutions    GFLOP per second of CPU time
    python -m benchmarks.onednn steps           CPU time of training steps of compact networks

jaxlib for Linux on x86-64 contains oneDNN and calls it for HLO custom calls of certain names. The
names and their settings are not documented and may change with any release; a wrong setting ends
the process. fer_jax does not use them: this module measures what they would bring.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from fer_jax.models.layers import conv
from fer_jax.models.light_vgg import LightVGG
from fer_jax.models.resnet import ResNet18
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


@jax.custom_vjp
def _in_onednn(maps: jax.Array, kernel: jax.Array) -> jax.Array:
    return onednn(maps, kernel)


def _backward(inputs: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[Any, Any]:
    """The input's gradient in oneDNN; the kernel's in whichever is faster, by `convolutions`."""
    maps, kernel = inputs
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    if maps.dtype == jnp.bfloat16 and maps.shape[-1] >= 96:
        of_kernel = onednn_kernel_gradient(maps, gradient)
    else:
        full = (maps.astype(jnp.float32), gradient.astype(jnp.float32))
        of_kernel = xla_kernel_gradient(*full)
    return onednn(gradient, turned), of_kernel.astype(kernel.dtype)


_in_onednn.defvjp(lambda maps, kernel: (onednn(maps, kernel), (maps, kernel)), _backward)


def _convolve(
    maps: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **settings: Any
) -> jax.Array:
    """`conv.convolve` with oneDNN where it can compute it."""
    same = padding == "SAME" or list(map(tuple, padding)) == [(1, 1), (1, 1)]
    is_unit = kernel.shape[:2] == (3, 3) and set(strides) == {1} and same
    if is_unit and maps.shape[3] >= 8 and min(maps.shape[1:3]) >= 3:
        return _in_onednn(maps, kernel)
    return _CONVOLVE(maps, kernel, strides, padding, **settings)


_CONVOLVE = conv.convolve


def _networks(dtype: Any) -> Iterator[tuple[str, nn.Module, int]]:
    """The network that is shipped and a compact ResNet-18, at 48 pixels, with a batch size."""
    light = LightVGG(8, widths=(32, 64, 128), head_widths=(512,), dtype=dtype)
    yield "LightVGG of 32, 64, 128", light, 128
    resnet = ResNet18(8, widths=(24, 48, 96, 192), small_stem=True, dtype=dtype)
    yield "ResNet-18 of 24, 48, 96, 192", resnet, 64


def step_seconds(model: nn.Module, batch: int) -> float:
    """Returns the CPU time of a training step: forward, backward and Adam, without augmentation."""
    images = jax.random.normal(jax.random.key(0), (batch, 48, 48, 3))
    labels = jnp.arange(batch) % 8
    variables = jax.jit(lambda: model.init(jax.random.key(1), images, train=False))()
    optimizer = optax.adam(1e-3)
    params = variables.pop("params")
    state = (params, variables, optimizer.init(params))

    @functools.partial(jax.jit, compiler_options=xla_options.for_model(model))
    def step(state: Any, _: jax.Array) -> Any:
        params, variables, moments = state

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            logits, updated = model.apply(
                {"params": params, **variables}, images, train=True,
                rngs={"dropout": jax.random.key(2)}, mutable=list(variables),
            )  # fmt: skip
            losses = optax.softmax_cross_entropy_with_integer_labels(
                jnp.asarray(logits, jnp.float32), labels
            )
            return losses.mean(), updated

        (_, variables), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), variables, moments

    return seconds(step, state, images, calls=2)


def seconds(function: Callable[..., Any], *inputs: Any, calls: int = 8) -> float:
    """Returns the CPU time of a call, of all threads: the median of five times `calls` calls."""
    jax.block_until_ready(function(*inputs))
    times = []
    for _ in range(5):
        begun = os.times()
        for _ in range(calls):  # one is hardly longer than a tick of the clock
            jax.block_until_ready(function(*inputs))
        ended = os.times()
        times.append((ended.user + ended.system - begun.user - begun.system) / calls)
    return statistics.median(times)


def print_steps() -> None:
    """Prints the CPU time of training steps."""
    print("| network, batch | float32: XLA, oneDNN | bfloat16: XLA, oneDNN |\n|---|---|---|")
    rows: dict[str, list[float]] = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        for name, model, batch in _networks(dtype):
            for convolve in (_CONVOLVE, _convolve):
                with mock.patch.object(conv, "convolve", convolve):
                    cpu = step_seconds(model, batch)
                rows.setdefault(f"{name}; {batch}", []).append(cpu)
    for name, times in rows.items():
        full, half = (", ".join(f"{1000 * time:.0f} ms" for time in part)
                      for part in (times[:2], times[2:]))  # fmt: skip
        print(f"| {name} | {full} | {half} |", flush=True)


def print_convolutions() -> None:
    """Prints the rates of single convolutions."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("convolutions", "steps"))
    {"convolutions": print_convolutions, "steps": print_steps}[parser.parse_args().what]()
