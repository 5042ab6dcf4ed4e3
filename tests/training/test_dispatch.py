"""Tests of chunks: where they end, and that all stores give bit-identical results."""

from __future__ import annotations

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from fer_jax.data.feed import make_feed
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records
from fer_jax.data.sampling import BatchSampler
from fer_jax.data.store import HostStore, Placement
from fer_jax.models.registry import create_model
from fer_jax.runtime import sharding
from fer_jax.settings import Augmentation
from fer_jax.training.dispatch import ChunkPlan, choose_steps, make_chunk_program
from fer_jax.training.recipe import Recipe
from fer_jax.training.state import create_state
from fer_jax.training.step import make_step_function

SIZE, BATCH, STEPS = 12, 8, 4

# One change only: each takes time to compile.
AUGMENTATION = Augmentation(rotation=0, zoom=0, shift=0, blur=0, noise=0, brightness=0.2,
                            contrast=0, saturation=0)  # fmt: skip


def boundaries(plan: ChunkPlan, step: int) -> list[int]:
    found = []
    while (end := plan.end_after(step)) is not None:
        found.append(end)
        step = end
    return found


@pytest.mark.parametrize(
    ("steps", "stage_ends", "expected"),
    [
        (1, (3,), [1, 2, 3]),
        (4, (8,), [4, 8]),
        (4, (10,), [4, 8, 10]),  # the last one is shorter
        (4, (6, 10), [4, 6, 8, 10]),  # and one ends with a stage
        (100, (6, 10), [6, 10]),
    ],
)
def test_chunks_end_at_multiples_and_at_the_ends_of_stages(steps, stage_ends, expected):
    plan = ChunkPlan(steps, stage_ends)
    assert boundaries(plan, 0) == expected
    for index, step in enumerate(expected):  # the same in a resumed run
        assert boundaries(plan, step) == expected[index + 1 :]


@pytest.mark.parametrize(
    ("wanted", "period", "platform", "expected"),
    [
        (None, 35, "cpu", 1),
        (5, 35, "cpu", 5),
        (40, 35, "gpu", 40),
        (None, 35, "gpu", 7),  # divides the period
        (None, 64, "tpu", 16),
        (None, 37, "gpu", 16),  # a prime
        (None, 2, "gpu", 2),
        (None, 1, "gpu", 1),
    ],
)
def test_steps_per_chunk(wanted, period, platform, expected):
    assert choose_steps(wanted, period, platform) == expected


class Small(nn.Module):
    """A network that compiles fast."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.3, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(3)(x)


def final_state(model: nn.Module, devices: int, store: str, lengths: list[int]):
    """Returns state and losses after `STEPS` steps in chunks of the given lengths."""
    mesh = sharding.data_mesh(devices=jax.devices()[:devices])
    rng = np.random.default_rng(0)
    records = Records(
        images=rng.integers(0, 256, (20, SIZE, SIZE, 3), np.uint8),
        labels=rng.integers(0, 3, 20).astype(np.int32),
        ids=tuple(f"r{i}" for i in range(20)),
        groups=("",) * 20,
        label_names=("a", "b", "c"),
        digest="",
    )
    optimizer = optax.adam(1e-3)
    step = make_step_function(model, optimizer, Preprocessing(SIZE, "standardize"),
                              AUGMENTATION, Recipe(), 0)  # fmt: skip
    feed = make_feed(HostStore(records), Placement(store, False, ""), mesh)
    program = make_chunk_program(step, feed, mesh)
    state = sharding.replicate(create_state(model, optimizer, SIZE, 0), mesh)
    sampler, losses, begin = BatchSampler(records.labels, BATCH, 0), [], 0
    with jax.transfer_guard("disallow"):
        for length in lengths:
            items = feed.put(sampler.rows(begin, length))
            state, metrics = program(state, feed.source, items)
            losses += jax.device_get(metrics).loss.total.tolist()
            begin += length
    return jax.device_get(state), losses


def check(model: nn.Module, devices: int) -> None:
    expected, losses = final_state(model, devices, "host", [1] * STEPS)
    assert len(set(losses)) == STEPS
    for lengths in ([1] * STEPS, [2] * (STEPS // 2)):
        host, of_host = expected, losses
        if lengths[0] > 1:
            host, of_host = final_state(model, devices, "host", lengths)
        device, of_device = final_state(model, devices, "device", lengths)
        assert of_host == of_device
        jax.tree.map(np.testing.assert_array_equal, host, device)
        # Several steps in one program are fused differently: equal up to rounding.
        np.testing.assert_allclose(of_host, losses, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), host, expected)


def test_stores_give_bit_identical_states():
    check(Small(), 2)


@pytest.mark.slow
def test_stores_give_bit_identical_states_of_light_vgg():
    check(create_model("light_vgg", 3, head_widths=(8,)), 1)
