"""The speed benchmark's networks in PyTorch and Keras have our parameter counts and FLOPs.

Also runs one contender of each library.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import jax
import pytest

from benchmarks.speed import __main__ as command
from benchmarks.speed import table
from benchmarks.speed.tasks import CLASSES, Task
from fer_jax.models.registry import create_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*"),  # raised inside Keras
]

PAPER_SIZES = {"light_vgg": 12, "custom_cnn": 14, "vgg16": 32, "inception_resnet_v2": 75}
SIZES = {**PAPER_SIZES, "resnet18": 32, "resnet50": 32}


def our_parameters(model: str, size: int) -> int:
    network = create_model(model, CLASSES)
    image = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), image)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(("model", "size"), SIZES.items())
def test_pytorch_has_the_same_parameters_and_flops(model, size, torch):
    from torch.utils.flop_counter import FlopCounterMode

    ours = importlib.import_module("benchmarks.speed.contenders.ours")
    theirs = importlib.import_module("benchmarks.speed.contenders.pytorch").NETWORKS[model](size)
    trainable = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert trainable == our_parameters(model, size)
    with FlopCounterMode(display=False) as counter:
        theirs(torch.zeros(2, 3, size, size)).sum().backward()
    assert counter.get_total_flops() == 2 * ours.flops(
        create_model(model, CLASSES), size, backward=True
    )


@pytest.mark.parametrize(("model", "size"), PAPER_SIZES.items())
def test_keras_has_the_same_parameters(model, size, keras):
    contender = importlib.import_module("benchmarks.speed.contenders.keras3")
    stack = [keras.layers.Input((size, size, 3)), *contender.NETWORKS[model](size)]
    arrays = map(keras.ops.convert_to_numpy, trainable_weights(keras, stack))
    assert sum(array.size for array in arrays) == our_parameters(model, size)


def trainable_weights(keras, stack):
    return keras.Sequential(stack).trainable_weights


@pytest.mark.parametrize("kind", ["train", "infer"])
@pytest.mark.parametrize("library", ["pytorch", "keras3"])
def test_each_library_runs(kind, library, keras, torch):
    module = importlib.import_module(f"benchmarks.speed.contenders.{library}")
    task = Task(kind, "light_vgg", 8, 2)
    work = module.make(task, {"precision": "float32"}, "cpu", 2)
    work.run(2)
    assert (work.images_per_step, work.facts["parameters"]) == (2, our_parameters("light_vgg", 8))


def test_a_benchmark_with_pytorch(tmp_path: Path, monkeypatch):
    contenders = ["fer_jax", "torch_eager"]
    flags = "--kinds train --models light_vgg --size 8 --batch 2 --rounds 1 --seconds 0.01"
    out = tmp_path / "speed.json"
    arguments = [*flags.split(), "--contenders", ",".join(contenders), "--peers", sys.executable]
    monkeypatch.setattr(sys, "argv", ["speed", *arguments, "--ceilings=", "--out", str(out)])
    command.main()
    (task,) = json.loads(out.read_text())["tasks"].values()
    for name in contenders:
        assert "failed" not in task["contenders"][name]
    lines = [row for row in table.summary({"it": task}) if row.startswith("| it")]
    assert [line.split(" | ")[1] for line in lines] == ["float32", "any"]
    assert not any(table.NOTHING in line.split(" | ") for line in lines)
