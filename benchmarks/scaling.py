"""What devices say to each other in a training step, and what that costs on real ones.

    python -m benchmarks.scaling [--devices 8] [--fsdp 1] [--model vgg16 ...]
    python -m benchmarks.scaling --measure

The first compiles each network's step at the paper's size for simulated devices, counts the
collectives in the compiled program's text, and works out the step's time on the machines of
`MACHINES`, whose figures are assumptions with a source. The second trains a small network on 1,
2, 4 and 8 simulated devices: all share the same cores, so that it measures overhead only.
benchmarks/SCALING.md keeps what was found. Needs no data set.
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
from fer_jax.training.model_summary import describe_network
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import abstract_state, create_state
from fer_jax.training.step import TrainStep, make_step_function, make_train_step

NETWORKS = {
    "light_vgg": (100, 7),
    "custom_cnn": (224, 6),
    "vgg16": (224, 8),
    "inception_resnet_v2": (224, 7),
}
"""The paper's networks, with the side of their pictures and their classes."""

BATCHES = (16, 64, 256)
"""Images per device, for the arithmetic."""

PASSES = 3
"""The work of a training step in forward passes: backward, each product is taken twice."""

ROUNDS, STEPS = 5, 8


@dataclasses.dataclass(frozen=True)
class Machine:
    """What is assumed of one.

    Attributes:
      name: for the table.
      devices: that train as one.
      peak: of a device, bf16 operations per second.
      share: of the peak that convolutions are assumed to reach.
      bandwidth: bytes per second that a device can send while it receives as many.
      latency: seconds that an all-reduce of a few bytes takes.
    """

    name: str
    devices: int
    peak: float
    share: float
    bandwidth: float
    latency: float


MACHINES = (
    # NVIDIA's data sheet of the H200 SXM: 989 TFLOP/s bf16 without sparsity; NVLink 900 GB/s, both
    # directions together. Latency: assumed, of a small NCCL all-reduce inside a machine.
    Machine("8 x H200, NVLink", 8, 989e12, 0.35, 450e9, 20e-6),
    # Google's page on TPU v5e: 197 TFLOP/s bf16, 1,600 Gbit/s between chips; a pod is a 16 x 16
    # torus. Latency: assumed, 1 us for each of 2 x 2 x 8 hops along both rings there and back.
    Machine("TPU v5e, 256 chips", 256, 197e12, 0.35, 200e9, 32e-6),
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective operation of a compiled program.

    Attributes:
      kind: such as "all-reduce".
      nbytes: of its whole result; of a reduce-scatter, of what it reduces.
      group: devices that take part in one of it.
    """

    kind: str
    nbytes: int
    group: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends where they go round a ring."""
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
    """Of the text of a compiled program for CPUs; those in a loop's body count once.

    Raises:
      ValueError: the program is for a device whose collectives run in the background, or its
        text has another form.
    """
    found = []
    for line in program.splitlines():
        match = _COLLECTIVE.search(line)
        if match is None:
            continue
        if match["start"]:
            raise ValueError(f"expected a program for CPUs, found {match['kind']}-start")
        group = 2 if match["kind"] == "collective-permute" else _group(line)
        scattered = group if match["kind"] == "reduce-scatter" else 1
        found.append(Collective(match["kind"], scattered * _nbytes(match["result"]), group))
    return found


def _group(line: str) -> int:
    """Devices that take part in one: by the groups' length, the first group, or axes of a mesh."""
    groups = _GROUPS.search(line)
    if groups is None:
        raise ValueError(f"expected the groups of devices, found none in: {line.strip()}")
    if groups["length"]:
        return int(groups["length"])
    if groups["first"]:
        return groups["first"].count(",") + 1
    lengths = dict(axis.split("=") for axis in groups["mesh"].split(","))
    return math.prod(int(lengths[axis]) for axis in groups["axes"].split(","))


def _nbytes(result: str) -> int:
    """Of an array's type such as "f32[3,4]{1,0}", or of a tuple of them."""
    total = 0
    for name, bits, lengths in _ARRAY.findall(result):
        items = math.prod(int(length) for length in lengths.split(",") if length)
        total += items * (1 if name == "pred" else max(8, int(bits)) // 8)
    return total


def make_function(model: Any, size: int, mesh: Mesh) -> TrainStep:
    """The training step, as a run with default settings has it."""
    return make_step_function(
        model, optax.adam(1e-3), Preprocessing(size, "standardize"), Augmentation(), PLAIN, 0,
        mesh=mesh,
    )  # fmt: skip


def step_collectives(name: str, mesh: Mesh) -> list[Collective]:
    """Those of a network's training step at the paper's size, one image per device."""
    size, classes = NETWORKS[name]
    model = create_model(name, classes)
    state = abstract_state(model, optax.adam(1e-3), size, mesh)
    rows = sharding.batch_sharding(mesh)
    batch = {
        "image": jax.ShapeDtypeStruct((mesh.size, size, size, 3), jnp.uint8, sharding=rows),
        "label": jax.ShapeDtypeStruct((mesh.size,), jnp.int32, sharding=rows),
    }
    step: Any = make_train_step(make_function(model, size, mesh), mesh)
    return collectives_in(step.lower(state, batch).compile().as_text())


def store_collectives(size: int, batch: int, mesh: Mesh) -> list[Collective]:
    """Those of bringing one batch from pictures that are split over the devices."""
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
    """Of a training step."""
    size, classes = NETWORKS[name]
    model = create_model(name, classes)
    variables = abstract_state(model, optax.sgd(0.0), size, sharding.one_device_mesh()).variables
    flops = describe_network(model, variables, size).flops
    assert flops is not None, "XLA counts them on CPU"
    return PASSES * flops


def efficiency(
    machine: Machine, flops: float, batch: int, collectives: Sequence[Collective]
) -> tuple[float, float, float, float]:
    """Of a step with data parallelism.

    Args:
      machine: that it runs on.
      flops: per image.
      batch: images per device.
      collectives: of the step; their sizes do not depend on the number of devices.

    Returns:
      Seconds of computing, seconds of all-reduces, and the share of the time that computes
      where nothing overlaps and where all but each one's latency does.
    """
    computing = batch * flops / (machine.peak * machine.share)
    nbytes = sum(one.nbytes for one in collectives)
    ring = 2 * (machine.devices - 1) / machine.devices * nbytes / machine.bandwidth
    waiting = len(collectives) * machine.latency
    behind = max(computing, ring) + waiting
    return computing, ring + waiting, computing / (computing + ring + waiting), computing / behind


def predict(name: str, collectives: Sequence[Collective]) -> None:
    """Prints a row for each machine and batch."""
    flops = flops_per_image(name)
    print(f"{name}: {flops / 1e9:.3g} GFLOP per image and training step")
    for machine in MACHINES:
        for batch in BATCHES:
            computing, talking, plain, overlapped = efficiency(machine, flops, batch, collectives)
            print(
                f"| {name} | {machine.name} | {batch} | {1e3 * computing:.2f} | "
                f"{1e3 * talking:.2f} | {plain:.0%} | {overlapped:.0%} |"
            )


def count(options: argparse.Namespace) -> None:
    """Prints what is counted, then what follows from it."""
    mesh = sharding.data_mesh(options.fsdp)
    found = {}
    for name in options.model:
        found[name] = step_collectives(name, mesh)
        show(name, found[name])
    if options.fsdp > 1:
        return  # the arithmetic below is that of all-reduces
    show("sharded store", store_collectives(224, 8 * mesh.size, mesh))
    for name, collectives in found.items():
        predict(name, collectives)


def show(title: str, collectives: Sequence[Collective]) -> None:
    """Prints a row for each kind and each number of devices that take part."""
    kinds = collections.Counter((one.kind, one.group) for one in collectives)
    for (kind, group), how_many in kinds.items():
        some = [one for one in collectives if (one.kind, one.group) == (kind, group)]
        nbytes, sent = sum(one.nbytes for one in some), sum(one.sent for one in some)
        print(f"| {title} | {kind} | {group} | {how_many} | {nbytes:,} | {sent:,.0f} |")


def measure() -> None:
    """Prints what a step of LightVGG costs on simulated devices, in alternating rounds."""
    size, batch = 48, 64
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    runs: dict[int, list[Any]] = {}
    for devices in (1, 2, 4, 8):
        mesh = sharding.data_mesh(devices=jax.devices()[:devices])
        model = create_model("light_vgg", 7)
        data = sharding.put_batch({"image": images, "label": np.arange(batch) % 7}, mesh)
        step = make_train_step(make_function(model, size, mesh), mesh)
        state = sharding.place(create_state(model, optax.adam(1e-3), size, 0), mesh)
        runs[devices] = [step, jax.block_until_ready(step(state, data)[0]), data]
    taken: dict[int, list[tuple[float, float]]] = {devices: [] for devices in runs}
    for _ in range(ROUNDS):
        for devices, run in runs.items():
            step, state, data = run
            wall, work = time.perf_counter(), time.process_time()
            for _ in range(STEPS):
                state, _ = step(state, data)
                jax.block_until_ready(state)
            seconds = time.perf_counter() - wall, time.process_time() - work
            taken[devices].append((seconds[0] / STEPS, seconds[1] / STEPS))
            run[1] = state
    for devices, rounds in taken.items():
        wall, work = (1e3 * statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {devices} | {wall:.1f} | {work:.1f} |")


def main() -> None:
    """Prints the rows of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--devices", type=int, default=8, help="simulated ones")
    parser.add_argument("--fsdp", type=int, default=1, help="of them share one state")
    parser.add_argument("--model", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options.devices)
    if options.measure:
        measure()
    else:
        count(options)


if __name__ == "__main__":
    main()
