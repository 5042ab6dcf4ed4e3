"""Collectives of a training step on several devices, and their estimated cost.

    python -m benchmarks.scaling [--devices 8] [--fsdp 1] [--model vgg16 ...]
    python -m benchmarks.scaling --measure

The first command compiles each network's step at the paper's image size for simulated devices,
counts the collectives in the compiled program's text, and estimates the step time on `MACHINES`,
whose figures are assumptions with a source. The second trains a small network on 1, 2, 4 and 8
simulated devices, which share the same cores, so it measures overhead only. Results:
results/scaling.md. Needs no data set.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import math
import re
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from fer_jax.data.feed import DeviceFeed
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records
from fer_jax.data.store import HostStore
from fer_jax.models.registry import create_model
from fer_jax.runtime import sharding
from fer_jax.settings import Augmentation
from fer_jax.training.model_summary import summarize
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import abstract_state, create_state
from fer_jax.training.step import TrainStep, make_step_function, make_train_step

NETWORKS = {
    "light_vgg": (100, 7),
    "custom_cnn": (224, 6),
    "vgg16": (224, 8),
    "inception_resnet_v2": (224, 7),
}
"""The paper's networks: image side (pixels) and number of classes."""

BATCHES = (16, 64, 256)
"""Images per device in the estimates."""

PASSES = 3
"""Operations of a training step in forward passes; backward has two products for each."""

ROUNDS, STEPS = 5, 8


@dataclasses.dataclass(frozen=True)
class Machine:
    """Assumptions about a machine.

    Attributes:
      name: for the table.
      devices: number of devices.
      peak: bf16 operations per second of a device.
      utilization: share of the peak that convolutions reach.
      bandwidth: bytes per second that a device sends while it receives as many.
      latency: seconds of an all-reduce of a few bytes.
    """

    name: str
    devices: int
    peak: float
    utilization: float
    bandwidth: float
    latency: float


MACHINES = (
    # NVIDIA's data sheet of the H200 SXM: 989 TFLOP/s bf16 without sparsity; NVLink 900 GB/s, both
    # directions together. Latency: assumed, of a small NCCL all-reduce within a machine.
    Machine("8 x H200, NVLink", 8, 989e12, 0.35, 450e9, 20e-6),
    # Google's page on TPU v5e: 197 TFLOP/s bf16, 1,600 Gbit/s between chips; a pod is a 16 x 16
    # torus. Latency: assumed, 1 us for each of 2 x 2 x 8 hops along both rings there and back.
    Machine("TPU v5e, 256 chips", 256, 197e12, 0.35, 200e9, 32e-6),
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective operation of a compiled program.

    Attributes:
      kind: such as "all-reduce".
      nbytes: size of the whole result; for a reduce-scatter, of the operand.
      group: number of participating devices.
    """

    kind: str
    nbytes: int
    group: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends in a ring."""
        trips = {"all-reduce": 2, "collective-permute": self.group / max(1, self.group - 1)}
        return trips.get(self.kind, 1) * (self.group - 1) / self.group * self.nbytes


_COLLECTIVE = re.compile(
    r"= (?P<result>\S.*?) "
    r"(?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?P<start>-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[a-z]+?(\d+)\w*)\[([\d,]*)\]")
_GROUPS = re.compile(
    r"replica_groups=(?:\[\d+,(?P<length>\d+)\]|\{\{(?P<first>[\d,]+)\}"
    r"|mesh\[(?P<mesh>[^\]]*)\][^{]*\{(?P<axes>[^}]*)\})"
)


def collectives_in(program: str) -> list[Collective]:
    """Returns the collectives in the text of a program compiled for CPUs; loop bodies count once.

    Raises:
      ValueError: the program has asynchronous collectives (GPU, TPU), or unknown syntax.
    """
    collectives = []
    for line in program.splitlines():
        match = _COLLECTIVE.search(line)
        if match is None:
            continue
        if match["start"]:
            raise ValueError(f"expected a program for CPUs, found {match['kind']}-start")
        group = 2 if match["kind"] == "collective-permute" else _group(line)
        scattered = group if match["kind"] == "reduce-scatter" else 1
        collectives.append(Collective(match["kind"], scattered * _nbytes(match["result"]), group))
    return collectives


def _group(line: str) -> int:
    """Returns the number of participants, from the group length, the first group, or mesh axes."""
    groups = _GROUPS.search(line)
    if groups is None:
        raise ValueError(f"expected replica_groups, found none in: {line.strip()}")
    if groups["length"]:
        return int(groups["length"])
    if groups["first"]:
        return groups["first"].count(",") + 1
    lengths = dict(axis.split("=") for axis in groups["mesh"].split(","))
    return math.prod(int(lengths[axis]) for axis in groups["axes"].split(","))


def _nbytes(result: str) -> int:
    """Returns the size of an array type such as "f32[3,4]{1,0}", or of a tuple of them."""
    total = 0
    for name, bits, lengths in _ARRAY.findall(result):
        items = math.prod(int(length) for length in lengths.split(",") if length)
        total += items * (1 if name == "pred" else max(8, int(bits)) // 8)
    return total


def make_step(model: Any, size: int, mesh: Mesh) -> TrainStep:
    """Returns the training step of a run with default settings."""
    return make_step_function(
        model, optax.adam(1e-3), Preprocessing(size, "standardize"), Augmentation(), PLAIN, 0,
        mesh=mesh,
    )  # fmt: skip


def step_collectives(name: str, mesh: Mesh) -> list[Collective]:
    """Returns the collectives of a network's training step at the paper's size."""
    size, classes = NETWORKS[name]
    model = create_model(name, classes)
    state = abstract_state(model, optax.adam(1e-3), size, mesh)
    rows = sharding.batch_sharding(mesh)
    batch = {
        "image": jax.ShapeDtypeStruct((mesh.size, size, size, 3), jnp.uint8, sharding=rows),
        "label": jax.ShapeDtypeStruct((mesh.size,), jnp.int32, sharding=rows),
    }
    step: Any = make_train_step(make_step(model, size, mesh), mesh)
    return collectives_in(step.lower(state, batch).compile().as_text())


def store_collectives(size: int, batch: int, mesh: Mesh) -> list[Collective]:
    """Returns the collectives of gathering a batch from images sharded over the devices."""
    images = np.zeros((mesh.size, size, size, 3), np.uint8)
    names = tuple(map(str, range(len(images))))
    records = Records(images, np.zeros(len(images), np.int32), names, names, names, "")
    feed = DeviceFeed(HostStore(records), mesh, sharded=True)
    items = feed.put(np.zeros((1, batch), np.int64))
    pick = jax.jit(lambda source, item: feed.pick(source, {"row": item["row"][0]}))
    text = pick.lower(feed.source, items).compile().as_text()
    assert text is not None
    return collectives_in(text)


def flops_per_image(name: str) -> float:
    """Returns the operations of a training step per image."""
    size, classes = NETWORKS[name]
    model = create_model(name, classes)
    variables = abstract_state(model, optax.sgd(0.0), size, sharding.one_device_mesh()).variables
    flops = summarize(model, variables, size).flops
    assert flops is not None, "XLA counts them on CPU"
    return PASSES * flops


def efficiency(
    machine: Machine, flops: float, batch: int, collectives: Sequence[Collective]
) -> tuple[float, float, float, float]:
    """Estimates a data-parallel step.

    Args:
      machine: the machine.
      flops: operations per image.
      batch: images per device.
      collectives: of the step; their sizes do not depend on the number of devices.

    Returns:
      Seconds of compute, seconds of all-reduces, and the share of compute in the step time
      without overlap and with overlap of everything but the latencies.
    """
    compute = batch * flops / (machine.peak * machine.utilization)
    nbytes = sum(collective.nbytes for collective in collectives)
    ring = 2 * (machine.devices - 1) / machine.devices * nbytes / machine.bandwidth
    latency = len(collectives) * machine.latency
    communication, overlapped = ring + latency, max(compute, ring) + latency
    return compute, communication, compute / (compute + communication), compute / overlapped


def print_estimates(name: str, collectives: Sequence[Collective]) -> None:
    """Prints a row per machine and batch."""
    flops = flops_per_image(name)
    print(f"{name}: {flops / 1e9:.3g} GFLOP per image and training step")
    for machine in MACHINES:
        for batch in BATCHES:
            compute, communication, plain, overlapped = efficiency(
                machine, flops, batch, collectives
            )
            print(
                f"| {name} | {machine.name} | {batch} | {1e3 * compute:.2f} | "
                f"{1e3 * communication:.2f} | {plain:.0%} | {overlapped:.0%} |"
            )


def count(options: argparse.Namespace) -> None:
    """Prints the collectives of each network, then the estimates."""
    mesh = sharding.data_mesh(options.fsdp)
    collectives = {}
    for name in options.model:
        collectives[name] = step_collectives(name, mesh)
        print_collectives(name, collectives[name])
    if options.fsdp > 1:
        return  # the estimates assume all-reduces only
    print_collectives("sharded store", store_collectives(224, 8 * mesh.size, mesh))
    for name in collectives:
        print_estimates(name, collectives[name])


def print_collectives(title: str, collectives: Sequence[Collective]) -> None:
    """Prints a row per kind and number of participating devices."""
    groups: dict[tuple[str, int], list[Collective]] = collections.defaultdict(list)
    for one in collectives:
        groups[one.kind, one.group].append(one)
    for (kind, group), members in groups.items():
        nbytes, sent = sum(one.nbytes for one in members), sum(one.sent for one in members)
        print(f"| {title} | {kind} | {group} | {len(members)} | {nbytes:,} | {sent:,.0f} |")


def measure() -> None:
    """Prints the time of LightVGG's step on simulated devices, in alternating rounds."""
    size, batch = 48, 64
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    runs: dict[int, list[Any]] = {}
    for devices in (1, 2, 4, 8):
        mesh = sharding.data_mesh(devices=jax.devices()[:devices])
        model = create_model("light_vgg", 7)
        data = sharding.put_batch({"image": images, "label": np.arange(batch) % 7}, mesh)
        step = make_train_step(make_step(model, size, mesh), mesh)
        state = sharding.place(create_state(model, optax.adam(1e-3), size, 0), mesh)
        runs[devices] = [step, jax.block_until_ready(step(state, data)[0]), data]
    results: dict[int, list[tuple[float, float]]] = {devices: [] for devices in runs}
    for _ in range(ROUNDS):
        for devices, run in runs.items():
            step, state, data = run
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(STEPS):
                state, _ = step(state, data)
                jax.block_until_ready(state)
            seconds = time.perf_counter() - wall, time.process_time() - cpu
            results[devices].append((seconds[0] / STEPS, seconds[1] / STEPS))
            run[1] = state
    for devices, rounds in results.items():
        wall, cpu = (1e3 * statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {devices} | {wall:.1f} | {cpu:.1f} |")


def main() -> None:
    """Prints the rows of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--devices", type=int, default=8, help="simulated devices")
    parser.add_argument("--fsdp", type=int, default=1, help="FSDP group size")
    parser.add_argument("--model", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--measure", action="store_true", help="train on simulated devices")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options.devices)
    if options.measure:
        measure()
    else:
        count(options)


if __name__ == "__main__":
    main()
