"""One training step and one evaluation step, as pure functions and as jitted programs.

A step is a pure function of the state and the batch. Its random draws are folded
from (seed, step, row), so they are the same on any number of devices. How a step learns
from its batch is the recipe's; how several steps become one program is not decided here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fer_jax.data.augment import Augmentation, augment
from fer_jax.data.mixing import Labels, mix
from fer_jax.data.preprocess import Preprocessing
from fer_jax.models.registry import shared_blocks
from fer_jax.runtime import sharding
from fer_jax.runtime import xla_options as compiler
from fer_jax.training import losses, sam, tta
from fer_jax.training.accumulate import dropout_of_rows, in_parts
from fer_jax.training.ema import averaged
from fer_jax.training.freezing import Frozen
from fer_jax.training.metrics import StepMetrics, TrainMetrics, norm
from fer_jax.training.recipe import Recipe
from fer_jax.training.state import TrainState

NOTHING_FROZEN = Frozen()

Batch = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, TrainMetrics]]
EvalStep = Callable[[dict[str, Any], Batch], tuple[StepMetrics, jax.Array]]


@flax.struct.dataclass
class Examples:
    """A batch as the network sees it.

    Attributes:
      inputs: float32[B, H, W, 3].
      labels: what they show.
    """

    inputs: jax.Array
    labels: Labels


@flax.struct.dataclass
class Pass:
    """A forward and backward pass.

    Attributes:
      gradient: of the mean loss by the parameters.
      batch_stats: as the pass leaves them.
      logits: float32[B, C].
      losses: float32[B].
    """

    gradient: Any
    batch_stats: Any
    logits: jax.Array
    losses: jax.Array


PassOf = Callable[[Any, Any, Examples, jax.Array], Pass]
"""From parameters, statistics, examples and the key of dropout."""


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
    """One optimizer step as a pure function, not compiled yet.

    The batch has image: uint8[B, H, W, 3] and label: int32[B]. `optimizer` is that of what
    is not frozen. `mesh` is needed where devices share a state: there the step says what is
    gathered and what stays split.
    """
    pass_of = make_pass(model, recipe, frozen, mesh)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, TrainMetrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        examples = make_examples(batch, augment_key, augmentation, preprocessing)
        here = pass_of(state.params, state.batch_stats, examples, dropout_key)
        gradient = here.gradient
        if recipe.sam_rho:
            above = sam.climbed(state.params, gradient, recipe.sam_rho)
            gradient = pass_of(above, state.batch_stats, examples, dropout_key).gradient
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        if state.rate_scale is not None:
            updates = jax.tree.map(lambda leaf: leaf * state.rate_scale, updates)
        new_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=frozen.apply_updates(state.params, updates),
            batch_stats=here.batch_stats,
            opt_state=opt_state,
        )
        new_state = dataclasses.replace(new_state, ema=averaged(new_state, recipe.ema_decay))
        metrics = TrainMetrics.single_from_model_output(
            logits=here.logits,
            labels=examples.labels.main,
            losses=here.losses,
            mask=jnp.ones_like(here.losses),
            gradient_norm=norm(gradient),
            parameter_norm=norm(new_state.params),
        )
        return sharding.split(new_state, mesh), metrics

    return train_step


def make_examples(
    batch: Batch, key: jax.Array, augmentation: Augmentation, preprocessing: Preprocessing
) -> Examples:
    """Augments, mixes and normalises a batch; each row draws from `key` and its number."""
    rows = jnp.arange(batch["label"].shape[0])
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)
    images = augment(batch["image"], keys, augmentation)
    images, labels = mix(images, batch["label"], keys, augmentation)
    return Examples(preprocessing.normalized(images), labels)


def make_pass(model: nn.Module, recipe: Recipe, frozen: Frozen, mesh: Mesh | None = None) -> PassOf:
    """The gradient of the recipe's mean loss, in one piece or in parts."""
    network = model if frozen.blocks else shared_blocks(model)

    def loss_of(
        params: Any, batch_stats: Any, examples: Examples, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
        with frozen.inference_norms():
            logits, updated = network.apply(
                {"params": frozen.stop_gradients(params), "batch_stats": batch_stats},
                examples.inputs,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
        targets = examples.labels.targets(logits.shape[-1])
        values = losses.image_losses(logits, targets, recipe)
        return values.mean(), (logits, values, updated.get("batch_stats", {}))

    gradient_of = jax.grad(loss_of, has_aux=True)

    def pass_of(params: Any, batch_stats: Any, examples: Examples, key: jax.Array) -> Pass:
        whole = sharding.gathered((params, batch_stats), mesh)

        def part(some: Examples, rows: jax.Array) -> tuple[Any, Any]:
            with dropout_of_rows(rows, examples.inputs.shape[0]):
                gradient, (logits, values, stats) = gradient_of(*whole, some, key)
            return (sharding.split(gradient, mesh), stats), (logits, values)

        (gradient, stats), (logits, values) = in_parts(part, recipe.accumulate, examples)
        return Pass(gradient, stats, logits, values)

    return pass_of


def make_train_step(function: TrainStep, mesh: Mesh) -> TrainStep:
    """Compiles one step over the mesh; the old state's memory is reused."""
    return jax.jit(
        function,
        donate_argnums=0,
        out_shardings=(sharding.new_state_sharding(mesh), sharding.replicated(mesh)),
        compiler_options=compiler.options(),
    )


def make_eval_function(
    model: nn.Module, preprocessing: Preprocessing, views: str = tta.NONE
) -> EvalStep:
    """The forward pass, not compiled yet; padded rows have mask 0 and do not count.

    The batch has image: uint8[B, H, W, 3], label: int32[B] and mask: float32[B];
    the result is the metrics and the probabilities float32[B, C], the mean over the `views`
    of each image, a name of `tta.VIEWS`.
    """
    network = shared_blocks(model)

    def eval_step(variables: dict[str, Any], batch: Batch) -> tuple[StepMetrics, jax.Array]:
        def logits_of(images: jax.Array) -> jax.Array:
            return jnp.asarray(
                network.apply(variables, preprocessing.normalized(images), train=False)
            )

        log_p = tta.mean_log_probabilities(logits_of, batch["image"], views)
        metrics = StepMetrics.single_from_model_output(
            logits=log_p,
            labels=batch["label"],
            losses=losses.cross_entropy(log_p, jax.nn.one_hot(batch["label"], log_p.shape[-1])),
            mask=batch["mask"],
        )
        return metrics, jnp.exp(log_p)

    return eval_step
