"""The compute dtype of a run with `model.dtype` "auto".

bfloat16 where the devices compute fast in it and a step of the network comes out the same; else
float32. On CPUs XLA's bfloat16 convolutions are no faster (results/speed.md).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fer_jax import run_dir
from fer_jax.models.initialize import initialize
from fer_jax.runtime import distributed
from fer_jax.settings import AUTO_DTYPE, Settings
from fer_jax.training.build import make_model

MAX_LOSS_DIFFERENCE = 0.02
"""Largest relative difference of the loss between the dtypes."""

MAX_GRADIENT_DIFFERENCE = 0.5
"""Largest norm of the gradients' difference, as a share of the float32 gradient's norm.

light_vgg, custom_cnn and vgg16 differ by 0.04 to 0.08 on a CPU, resnet18 by 0.31 (BatchNorm).
"""

RECORD = "dtype_check"
"""Entry of `Run.engine`: what the choice rests on."""

_FIRST_FAST_GPU = 8.0  # compute capability of NVIDIA's Ampere, the first with bfloat16 units
_BATCH = 32
_CLASSES = 7


def resolve(settings: Settings, folder: Path) -> tuple[Settings, dict[str, Any]]:
    """Returns the settings with a dtype, and the entries of `Run.engine` that say why.

    A run in `folder` keeps its dtype. All processes of a job must call it together.

    Args:
      settings: of the run; returned as they are unless `model.dtype` is "auto".
      folder: the run directory; may not exist.
    """
    if settings.model.dtype != AUTO_DTYPE:
        return settings, {}
    if run_dir.is_run(folder):
        stored = run_dir.open_run(folder)
        record = {RECORD: stored.engine[RECORD]} if RECORD in stored.engine else {}
        return _with_dtype(settings, stored.settings.model.dtype), record
    device = jax.devices()[0]
    if not is_fast(device):
        record = {"reason": f"{device.device_kind} computes no faster in bfloat16"}
        return _chosen(settings, "float32", record)
    loss, gradient = compare(settings)
    agrees = loss <= MAX_LOSS_DIFFERENCE and gradient <= MAX_GRADIENT_DIFFERENCE
    dtype = "bfloat16" if distributed.all_processes(agrees) else "float32"
    reason = "a step in bfloat16 against float32"
    return _chosen(settings, dtype, {"reason": reason, "loss": loss, "gradient": gradient})


def is_fast(device: Any) -> bool:
    """Whether a device computes faster in bfloat16: TPUs, and NVIDIA's GPUs since Ampere."""
    if device.platform != "gpu":
        return bool(device.platform == "tpu")
    try:
        return float(device.compute_capability) >= _FIRST_FAST_GPU
    except (AttributeError, ValueError):  # of another maker, such as "gfx90a": not measured
        return False


def compare(settings: Settings) -> tuple[float, float]:
    """Compares a step in bfloat16 with one in float32, on noise and with initial weights.

    Returns:
      The difference of the loss relative to float32's, and that of the gradient.
    """
    size = settings.data.size
    rng = np.random.default_rng(settings.seed)
    images = jnp.asarray(rng.standard_normal((_BATCH, size, size, 3), np.float32))
    labels = jnp.asarray(rng.integers(0, _CLASSES, _BATCH))
    losses, gradients = [], []
    variables = None
    for dtype in ("float32", "bfloat16"):
        model = make_model(_with_dtype(settings, dtype), _CLASSES)
        variables = variables or initialize(model, size, settings.seed)
        params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}

        def loss_of(params: Any, model: Any = model, rest: Any = rest) -> jax.Array:
            logits, _ = model.apply(
                {"params": params, **rest}, images, train=True,
                rngs={"dropout": jax.random.key(settings.seed)}, mutable=list(rest),
            )  # fmt: skip
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, gradient = jax.jit(jax.value_and_grad(loss_of))(params)
        losses.append(float(loss))
        gradients.append(gradient)
    change = jax.tree.map(jnp.subtract, gradients[1], gradients[0])
    norm = float(optax.tree.norm(gradients[0]))
    return abs(losses[1] / losses[0] - 1), float(optax.tree.norm(change)) / norm


def _chosen(
    settings: Settings, dtype: str, record: dict[str, Any]
) -> tuple[Settings, dict[str, Any]]:
    numbers = [f"{name} {value:.2%} apart" for name, value in record.items() if name != "reason"]
    print(f"compute dtype: {dtype} ({', '.join([record['reason'], *numbers])})")
    return _with_dtype(settings, dtype), {RECORD: record}


def _with_dtype(settings: Settings, dtype: str) -> Settings:
    return dataclasses.replace(settings, model=dataclasses.replace(settings.model, dtype=dtype))
