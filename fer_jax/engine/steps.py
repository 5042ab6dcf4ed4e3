"""The two jitted programs: one training step, one evaluation step.

A step is a pure function of the state and the batch. Its random draws are folded
from (seed, step, row), so they are the same on any number of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fer_jax.data.augment import Augmentation, augment
from fer_jax.data.preprocess import Preprocessing
from fer_jax.engine import compiler, losses, sharding
from fer_jax.engine.freezing import Frozen
from fer_jax.engine.metrics import StepMetrics
from fer_jax.engine.state import TrainState
from fer_jax.models.registry import shared_blocks

NOTHING_FROZEN = Frozen()

Batch = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]
EvalStep = Callable[[dict[str, Any], Batch], tuple[StepMetrics, jax.Array]]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    label_smoothing: float,
    seed: int,
    mesh: Mesh,
    frozen: Frozen = NOTHING_FROZEN,
) -> TrainStep:
    """Compiles one optimizer step over the mesh; the old state's memory is reused.

    The batch has image: uint8[B, H, W, 3] and label: int32[B]. `optimizer` is that of what
    is not frozen.
    """
    network = model if frozen.blocks else shared_blocks(model)

    def loss_of(
        params: Any, state: TrainState, inputs: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
        with frozen.inference_norms():
            logits, updated = network.apply(
                {"params": frozen.stop_gradients(params), "batch_stats": state.batch_stats},
                inputs,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
        per_image = losses.smoothed_cross_entropy(logits, labels, label_smoothing)
        return per_image.mean(), (logits, per_image, updated.get("batch_stats", {}))

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        rows = jnp.arange(batch["label"].shape[0])
        row_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(augment_key, rows)
        inputs = preprocessing.normalized(augment(batch["image"], row_keys, augmentation))

        gradient_of = jax.grad(loss_of, has_aux=True)
        gradient, (logits, per_image, batch_stats) = gradient_of(
            state.params, state, inputs, batch["label"], dropout_key
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=frozen.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        metrics = StepMetrics.single_from_model_output(
            logits=logits,
            labels=batch["label"],
            losses=per_image,
            mask=jnp.ones_like(per_image),
        )
        return new_state, metrics

    return jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=sharding.replicated(mesh),
        compiler_options=compiler.options(),
    )


def make_eval_step(model: nn.Module, preprocessing: Preprocessing, mesh: Mesh) -> EvalStep:
    """Compiles the forward pass; padded rows have mask 0 and do not count.

    The batch has image: uint8[B, H, W, 3], label: int32[B] and mask: float32[B];
    the result is the metrics and the probabilities float32[B, C].
    """
    network = shared_blocks(model)

    def eval_step(variables: dict[str, Any], batch: Batch) -> tuple[StepMetrics, jax.Array]:
        inputs = preprocessing.normalized(batch["image"])
        logits = jnp.asarray(network.apply(variables, inputs, train=False))
        metrics = StepMetrics.single_from_model_output(
            logits=logits,
            labels=batch["label"],
            losses=losses.smoothed_cross_entropy(logits, batch["label"], 0.0),
            mask=batch["mask"],
        )
        return metrics, jax.nn.softmax(logits)

    return jax.jit(
        eval_step, out_shardings=sharding.replicated(mesh), compiler_options=compiler.options()
    )
