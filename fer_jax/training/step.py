"""One training step as a pure function of the state and the batch.

Random draws are folded from (seed, step, row), so they are the same on any number of devices.
How a step learns from its batch is set by the recipe; `dispatch` compiles several steps into one
program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from fer_jax.data.augment import are_flipped, augment
from fer_jax.data.mixing import Labels, mix, mix_extras
from fer_jax.data.preprocess import Preprocessing
from fer_jax.heads import NO_HEADS, Heads
from fer_jax.models.registry import shared_blocks
from fer_jax.runtime import sharding, xla_options
from fer_jax.settings import Augmentation
from fer_jax.training import head_losses, losses, tta
from fer_jax.training.accumulate import dropout_of_rows, over_micro_batches
from fer_jax.training.freezing import Frozen
from fer_jax.training.metrics import HeadTrainMetrics, TrainMetrics, head_sums, norm
from fer_jax.training.recipe import Recipe
from fer_jax.training.state import TrainState

NOTHING_FROZEN = Frozen()

Batch = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, TrainMetrics]]


@flax.struct.dataclass
class Examples:
    """A batch as the network sees it.

    Attributes:
      inputs: float32[B, H, W, 3].
      labels: of the images.
      extras: float32[B, E], labels of further heads; None if there are none.
    """

    inputs: jax.Array
    labels: Labels
    extras: jax.Array | None = None


@flax.struct.dataclass
class Pass:
    """Result of a forward and backward pass.

    Attributes:
      gradient: of the mean loss with respect to the parameters.
      batch_stats: updated by the pass.
      outputs: float32[B, C + E], of the network.
      losses: float32[B].
    """

    gradient: Any
    batch_stats: Any
    outputs: jax.Array
    losses: jax.Array


PassFunction = Callable[[Any, Any, Examples, jax.Array], Pass]
"""Of parameters, batch statistics, examples and the dropout key."""


def make_step_function(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    recipe: Recipe,
    seed: int,
    frozen: Frozen = NOTHING_FROZEN,
    mesh: Mesh | None = None,
) -> TrainStep:
    """Returns one optimizer step as a pure function, not compiled.

    Args:
      model: the network.
      optimizer: of the parameters that are not frozen.
      preprocessing: of the run.
      augmentation: random changes of the images.
      recipe: how the step learns.
      seed: of augmentation and dropout.
      frozen: blocks that are not trained.
      mesh: needed if devices shard the state, to gather and split arrays.

    Returns:
      A function of the state and a batch with image: uint8[B, H, W, 3] and label: int32[B], or
      float32[B, C] whose rows sum to 1; and with extras: float32[B, E] for further heads.
    """
    run_pass = make_pass(model, recipe, frozen, mesh)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, TrainMetrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        examples = make_examples(batch, augment_key, augmentation, preprocessing, recipe.heads)
        result = run_pass(state.params, state.batch_stats, examples, dropout_key)
        gradient = result.gradient
        if recipe.sam_rho:
            # BatchNorm's statistics are those of the first pass.
            ascended = ascend(state.params, gradient, recipe.sam_rho)
            gradient = run_pass(ascended, state.batch_stats, examples, dropout_key).gradient
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        if state.rate_scale is not None:
            updates = jax.tree.map(lambda leaf: leaf * state.rate_scale, updates)
        new_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=frozen.apply_updates(state.params, updates),
            batch_stats=result.batch_stats,
            opt_state=opt_state,
        )
        new_state = dataclasses.replace(new_state, ema=updated_ema(new_state, recipe.ema_decay))
        metrics = step_metrics(result, examples, gradient, new_state.params, recipe.heads)
        return sharding.split(new_state, mesh), metrics

    return train_step


def step_metrics(
    result: Pass, examples: Examples, gradient: Any, params: Any, heads: Heads
) -> TrainMetrics:
    """Returns the metrics of a step; with further heads, `HeadTrainMetrics`."""
    logits, extras = heads.split(result.outputs)
    kind: Any = TrainMetrics
    more = {}
    if examples.extras is not None:
        kind, answers = HeadTrainMetrics, tta.activated(extras, heads)
        everyone = jnp.ones_like(result.losses)
        more["head_sums"] = head_sums(answers, examples.extras, everyone, heads)
    metrics: TrainMetrics = kind.single_from_model_output(
        logits=logits,
        labels=examples.labels.main,
        losses=result.losses,
        mask=jnp.ones_like(result.losses),
        gradient_norm=norm(gradient),
        parameter_norm=norm(params),
        **more,
    )
    return metrics


def make_examples(
    batch: Batch,
    key: jax.Array,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    heads: Heads = NO_HEADS,
) -> Examples:
    """Augments, mixes and normalizes a batch; each row's draws are folded from `key`."""
    rows = jnp.arange(batch["label"].shape[0])
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)
    images = augment(batch["image"], keys, augmentation)
    images, labels = mix(images, batch["label"], keys, augmentation)
    extras = batch.get("extras")
    if extras is not None:
        is_flipped = are_flipped(keys, augmentation)[:, None]
        extras = jnp.where(is_flipped, extras[:, np.array(heads.mirrored)], extras)
        extras = mix_extras(extras, labels, augmentation)
    return Examples(preprocessing.normalized(images), labels, extras)


def make_pass(
    model: nn.Module, recipe: Recipe, frozen: Frozen, mesh: Mesh | None = None
) -> PassFunction:
    """Returns the gradient function of the recipe's mean loss, over micro-batches if it has any."""
    network = model if frozen.blocks else shared_blocks(model)

    def mean_loss(
        params: Any, batch_stats: Any, examples: Examples, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
        with frozen.inference_norms():
            outputs, updated = network.apply(
                {"params": frozen.stop_gradients(params), "batch_stats": batch_stats},
                examples.inputs,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
        logits, extras = recipe.heads.split(outputs)
        targets = examples.labels.targets(logits.shape[-1])
        values = losses.image_losses(logits, targets, recipe)
        if examples.extras is not None:
            more = head_losses.head_losses(extras, examples.extras, recipe.heads)
            values = values + recipe.heads_weight * more
        return values.mean(), (outputs, values, updated.get("batch_stats", {}))

    gradient_function = jax.grad(mean_loss, has_aux=True)

    def run_pass(params: Any, batch_stats: Any, examples: Examples, key: jax.Array) -> Pass:
        gathered = sharding.gathered((params, batch_stats), mesh)

        def micro_batch(some: Examples, rows: jax.Array) -> tuple[Any, Any]:
            with dropout_of_rows(rows, examples.inputs.shape[0]):
                gradient, (outputs, values, stats) = gradient_function(*gathered, some, key)
            return (sharding.split(gradient, mesh), stats), (outputs, values)

        (gradient, stats), (outputs, values) = over_micro_batches(
            micro_batch, recipe.accumulate, examples
        )
        return Pass(gradient, stats, outputs, values)

    return run_pass


def ascend(params: Any, gradient: Any, rho: float) -> Any:
    """Moves `params` by `rho` (L2 norm over all of them) to where the loss is higher.

    The inner step of sharpness-aware minimization (Foret et al. 2021, algorithm 1): the gradient
    is taken there and applied to the original parameters.
    """
    # A zero gradient has no direction: stay.
    scale = rho / jnp.maximum(optax.tree.norm(gradient), 1e-12)
    return jax.tree.map(lambda value, slope: value + scale * slope, params, gradient)


def ema_decay(updates: jax.Array, decay: float) -> jax.Array:
    """Returns the decay of the moving average's n-th update, n from 0: float32 scalar.

    It rises as (1 + n) / (10 + n) up to `decay`, so that the random initial weights are soon
    forgotten (TensorFlow's ExponentialMovingAverage with num_updates).
    """
    count = updates.astype(jnp.float32)
    return jnp.minimum(decay, (1 + count) / (10 + count))


def updated_ema(state: TrainState, decay: float) -> Any:
    """Returns the moving average with `state.variables` included; None if disabled.

    Args:
      state: its `step` counts the updates, this one included.
      decay: final decay.
    """
    if state.ema is None:
        return None
    current = ema_decay(state.step - 1, decay)
    return jax.tree.map(
        lambda average, value: current * average + (1 - current) * value,
        state.ema,
        state.variables,
    )


def make_train_step(function: TrainStep, mesh: Mesh) -> TrainStep:
    """Jits one step over the mesh, donating the state."""
    return jax.jit(
        function,
        donate_argnums=0,
        out_shardings=(sharding.new_state_sharding(mesh), sharding.replicated(mesh)),
        compiler_options=xla_options.for_model(),
    )
