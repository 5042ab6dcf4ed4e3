"""Each network at a reduced size: all gradients are nonzero, statistics change, the loss falls."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fer_jax.models.initialize import initialize
from fer_jax.models.registry import MODELS, create_model

# Settings that make a network small enough for a test.
SMALL: dict[str, dict[str, Any]] = {
    "custom_cnn": {"head_widths": (16,), "batch_norm": True},
    "face_resnet": {},
    "inception_resnet_v2": {"head_widths": (16,), "repeats": (1, 1, 1)},
    "light_vgg": {"head_widths": (16, 16)},
    "resnet18": {"small_stem": True, "depths": (1, 1, 1, 1)},
    "resnet50": {"depths": (1, 1, 2, 1)},
    "resnet50_caffe": {"depths": (1, 1, 1, 1)},
    "senet50": {"depths": (1, 1, 1, 1)},
    "ir50": {"depths": (1, 1, 1, 1)},
    "vgg16": {"head_widths": (16,), "pooling": "max"},
}
CLASSES, BATCH, STEPS = 3, 6, 14
SLOW = (
    "face_resnet", "inception_resnet_v2", "ir50", "resnet18", "resnet50", "resnet50_caffe",
    "senet50", "vgg16",
)  # fmt: skip
RATES = {"vgg16": 2e-4}


def small(name: str, **settings: Any) -> tuple[nn.Module, int]:
    """A reduced network, and the side of its images."""
    size = max(MODELS[name].min_size, 12)
    return create_model(name, CLASSES, **{"dropout": 0.0, **SMALL[name], **settings}), size


@dataclasses.dataclass
class History:
    """The result of a few training steps on one batch."""

    before: dict[str, Any]
    after: dict[str, Any]
    gradient: Any
    losses: list[float]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in sorted(MODELS)
    ],
)
def history(request) -> History:
    model, size = small(request.param)
    images = jax.random.normal(jax.random.key(1), (BATCH, size, size, 3))
    labels = jnp.arange(BATCH) % CLASSES
    optimizer = optax.adam(RATES.get(request.param, 2e-3))

    def loss_of(params, stats):
        logits, updated = model.apply(
            {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )  # fmt: skip
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, updated.get("batch_stats", {})

    @jax.jit
    def step(params, stats, moments):
        (loss, stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(params, stats)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), stats, moments, loss, gradient

    variables = jax.tree.map(jnp.asarray, initialize(model, size, 0))
    params, stats = variables["params"], variables.get("batch_stats", {})
    moments, losses, first = optimizer.init(params), [], None
    for _ in range(STEPS):
        params, stats, moments, loss, gradient = step(params, stats, moments)
        first = gradient if first is None else first
        losses.append(float(loss))
    return History(variables, {"params": params, "batch_stats": stats}, first, losses)


def named(tree: Any) -> dict[str, np.ndarray]:
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_every_parameter_has_a_gradient(history):
    assert not [name for name, leaf in named(history.gradient).items() if not leaf.any()]


def test_the_loss_falls(history):
    assert history.losses[-1] < 0.9 * history.losses[0]


def test_training_updates_every_statistic(history):
    before = named(history.before.get("batch_stats", {}))
    after = named(history.after["batch_stats"])
    assert before.keys() == after.keys()
    assert not [name for name in before if np.array_equal(before[name], after[name])]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_inference_updates_no_statistic(name):
    model, size = small(name)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda key, images: model.init(key, images, train=False), jax.random.key(0), images
    )
    # Flax raises if a collection that is not `mutable` is modified.
    run = lambda variables, images: model.apply(variables, images, train=False)  # noqa: E731
    assert jax.eval_shape(run, variables, images).shape == (2, CLASSES)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("vgg16", 5),
        ("inception_resnet_v2", 3),
        ("resnet18", 4),
        ("resnet50", 5),
        ("ir50", 4),
        ("face_resnet", 14),
    ],
)
def test_remat_recomputes_each_block(name, blocks, remat):
    model, size = small(name, remat=remat)
    program = jax.make_jaxpr(lambda key, x: model.init(key, x, train=True))(
        jax.random.key(0), jnp.zeros((1, size, size, 3))
    )
    names = [equation.primitive.name for equation in program.eqns]
    # JAX has renamed this primitive before.
    assert sum(name in ("remat2", "checkpoint") for name in names) == (blocks if remat else 0)
