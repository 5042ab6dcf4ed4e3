"""Tests of FSDP: each device stores its part of the state, and training gives the same results."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from fer_jax import config as configuration
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records
from fer_jax.errors import UserError
from fer_jax.models.registry import create_model
from fer_jax.runtime import sharding
from fer_jax.settings import Augmentation
from fer_jax.training.evaluation import evaluate_records, make_eval_function
from fer_jax.training.optim import make_optimizer
from fer_jax.training.recipe import Recipe
from fer_jax.training.state import create_state
from fer_jax.training.step import make_step_function, make_train_step

ROOT = Path(__file__).parents[2]
CLASSES, BATCH, STEPS, RATE = 3, 16, 4, 1e-3


def placed(shape, fsdp, dtype=np.float32):
    """Returns the partition of an array over the devices, as axis names."""
    mesh = sharding.data_mesh(fsdp, jax.devices()[:2])
    form = jax.ShapeDtypeStruct(shape, dtype)
    return sharding.state_shardings({"a": form}, mesh)["a"].spec


@pytest.mark.parametrize(
    ("shape", "fsdp", "expected"),
    [
        ((4096, 128), 2, ("fsdp",)),
        ((4096, 128), 1, ()),
        ((128, 4096), 2, (None, "fsdp")),
        ((3, 3, 512, 512), 2, (None, None, "fsdp")),  # the first of two equal axes
        ((511, 512), 2, ()),  # less than 1 MiB
        ((4097, 130), 2, (None, "fsdp")),  # the longest axis cannot be split evenly
        ((4097, 131), 2, ()),
        ((), 2, ()),
    ],
)
def test_large_arrays_are_split_along_the_longest_divisible_axis(shape, fsdp, expected):
    assert placed(shape, fsdp) == PartitionSpec(*expected)


@pytest.mark.parametrize(("fsdp", "hint"), [(3, 1), (0, 2), (4, 2)])
def test_invalid_group_sizes_are_refused(fsdp, hint):
    said = rf"divisor of the 2 devices \(1, 2\), found {fsdp}; try --config.train.fsdp={hint}"
    with pytest.raises(UserError, match=said):
        sharding.data_mesh(fsdp)


class Trained:
    """A few steps of a network on `devices` devices in FSDP groups of `fsdp`."""

    def __init__(self, name, size, devices, fsdp, recipe, optimizer="adam", **settings):
        self.mesh = sharding.data_mesh(fsdp, jax.devices()[:devices])
        self.model = create_model(name, CLASSES, **settings)
        clipped = [f"optim.name={optimizer}", "optim.weight_decay=0", "optim.clip_norm=1"]
        optimizer = make_optimizer(
            configuration.load_settings("demo", clipped).optim, optax.constant_schedule(RATE)
        )
        self.preprocessing = Preprocessing(size, "standardize")
        function = make_step_function(
            self.model, optimizer, self.preprocessing, Augmentation(), recipe, 0, mesh=self.mesh
        )
        self.step = make_train_step(function, self.mesh)
        self.state = sharding.place(create_state(self.model, optimizer, size, 0, recipe), self.mesh)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (BATCH, size, size, 3), np.uint8)
        labels = rng.integers(0, CLASSES, BATCH).astype(np.int32)
        self.batch = sharding.put_batch({"image": images, "label": labels}, self.mesh)
        self.losses = []

    def train(self, steps=STEPS):
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batch)
            self.losses.append(metrics.compute()["loss"])
        return self

    def program(self):
        return self.step.lower(self.state, self.batch).compile()


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("no backend 'x'\nmore")])
@pytest.mark.parametrize("make", [sharding.data_mesh, sharding.one_device_mesh])
def test_a_platform_that_is_not_there_is_reported(monkeypatch, make, error):
    def fail():
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(UserError, match=r"the platform JAX_PLATFORMS=.*found: .*; unset JAX"):
        make()


def bytes_on_each_device(tree):
    return {
        sum(leaf.addressable_shards[index].data.nbytes for leaf in jax.tree.leaves(tree))
        for index in range(len(jax.tree.leaves(tree)[0].addressable_shards))
    }


@pytest.fixture(scope="module")
def both() -> tuple[Trained, Trained]:
    """Returns training on two devices with a whole state each, and with a shared state."""
    recipe = Recipe(ema_decay=0.9)
    alone, shared = (Trained("custom_cnn", 20, 2, fsdp, recipe).train() for fsdp in (1, 2))
    return alone, shared


def test_losses_and_parameters_are_the_same(both):
    alone, shared = both
    assert len(set(alone.losses)) == STEPS
    np.testing.assert_allclose(shared.losses, alone.losses, atol=1e-5)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5),
        *(jax.device_get(each.state) for each in both),
    )


def test_each_device_stores_only_its_part(both):
    alone, shared = both
    state = alone.state
    kernel = state.params["head1"]["kernel"].nbytes
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert bytes_on_each_device(alone.state) == {whole}
    # The kernel, its moving average and two moments are halved; other arrays are below 1 MiB.
    assert bytes_on_each_device(shared.state) == {whole - 4 * kernel // 2}


def test_the_program_gathers_only_parameters(both):
    alone, shared = both
    assert "all-gather" not in alone.program().as_text()
    gathered = re.findall(r" = (\S+?)(?:\{\S*)? all-gather\(", shared.program().as_text())
    assert gathered == ["f32[4096,128]"]
    kernel = alone.state.params["head1"]["kernel"].nbytes
    before, now = (each.program().memory_analysis() for each in both)
    assert before.argument_size_in_bytes - now.argument_size_in_bytes == 4 * kernel // 2
    # The gathered kernel is temporary. Gathering a moment would take as much again.
    assert now.temp_size_in_bytes < before.temp_size_in_bytes + 1.5 * kernel


def test_evaluation_is_the_same(both):
    rng = np.random.default_rng(1)
    records = Records(
        images=rng.integers(0, 256, (7, 20, 20, 3), np.uint8),
        labels=rng.integers(0, CLASSES, 7).astype(np.int32),
        ids=tuple("abcdefg"),
        groups=("",) * 7,
        label_names=("a", "b", "c"),
        digest="",
    )
    one, other = (
        evaluate_records(
            make_eval_function(each.model, each.preprocessing),
            each.state.inference_variables, records, 4, each.mesh,
        )
        for each in both
    )  # fmt: skip
    assert one.confusion.sum() == 7
    np.testing.assert_array_equal(one.confusion, other.confusion)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


CASES = [
    ("custom_cnn", 20, 4, 4, Recipe(sam_rho=0.05, accumulate=2), "adam", {}),
    ("custom_cnn", 20, 8, 2, Recipe(), "lamb", {"batch_norm": True}),
    ("light_vgg", 32, 4, 2, Recipe(scales_rate=True), "adamw", {}),
    ("vgg16", 32, 4, 4, Recipe(accumulate=2), "sgd", {}),
    ("inception_resnet_v2", 75, 2, 2, Recipe(ema_decay=0.9), "lion", {"repeats": (1, 1, 1)}),
]


def compare(name, size, devices, fsdp, recipe, optimizer, settings):
    """Asserts that training with FSDP groups of `fsdp` devices gives the same losses."""
    alone, shared = (
        Trained(name, size, devices, parts, recipe, optimizer, **settings).train(2)
        for parts in (1, fsdp)
    )
    (whole,), (part,) = bytes_on_each_device(alone.state), bytes_on_each_device(shared.state)
    assert part < 0.95 * whole
    np.testing.assert_allclose(shared.losses, alone.losses, atol=1e-5)


@pytest.mark.slow
def test_every_network_trains_the_same_with_fsdp():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True,
                          text=True, timeout=1500)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [name for name, *_ in CASES]


if __name__ == "__main__":
    for case in CASES:
        compare(*case)
        print(case[0])
