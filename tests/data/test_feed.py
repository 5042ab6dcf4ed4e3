"""Batches are bit-identical with any store, number of devices or threads, and initial step."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from fer_jax.data.feed import Prefetch, make_feed
from fer_jax.data.records import Records, Split
from fer_jax.data.sampling import BatchSampler
from fer_jax.data.store import FreeMemory, HostStore, Placement, StreamStore, choose_placement
from fer_jax.runtime import sharding
from fer_jax.training.dispatch import ChunkPlan

SIZE, RECORDS, BATCH = 5, 42, 8  # 42 is not divisible by 4 devices
STEPS = 2 * (RECORDS // BATCH)  # two epochs
DEVICES = ((1, 1), (2, 1), (2, 2), (4, 2))  # (devices, FSDP group size)
ROOT = Path(__file__).parents[2]


def mesh_of(devices: int, fsdp: int = 1) -> Mesh:
    return sharding.data_mesh(fsdp, jax.devices()[:devices])


def faces() -> Records:
    rng = np.random.default_rng(0)
    return Records(
        images=rng.integers(0, 256, (RECORDS, SIZE, SIZE, 3), np.uint8),
        labels=rng.integers(0, 3, RECORDS).astype(np.int32),
        ids=tuple(f"r{i}" for i in range(RECORDS)),
        groups=("",) * RECORDS,
        label_names=("a", "b", "c"),
        digest="",
    )


def split_of(records: Records) -> Split:
    def read(row: int) -> np.ndarray:
        time.sleep(0.001 * (row % 3))  # some later rows are decoded before earlier ones
        return records.images[row]

    return Split(
        records.labels, records.ids, records.groups, records.label_names, "", read,
        records.targets, records.extras,
    )  # fmt: skip


def feeds(mesh: Mesh, records: Records | None = None):
    """Yields the name and feed of every store."""
    records = records or faces()
    host, split = HostStore(records), split_of(records)
    yield "device", make_feed(host, Placement("device", False, ""), mesh)
    yield "sharded", make_feed(host, Placement("device", True, ""), mesh)
    yield "host", make_feed(host, Placement("host", False, ""), mesh)
    for threads in (1, 5):
        store = StreamStore(split, threads)
        yield f"stream {threads}", make_feed(store, Placement("stream", False, ""), mesh)


def batches(feed, mesh: Mesh, first: int, steps: int):
    """Returns the batches from step `first` on, prefetched in chunks of `steps`."""
    plan = ChunkPlan(steps, (STEPS,))
    sampler = BatchSampler(faces().labels, BATCH, seed=3)
    placed = sharding.steps_sharding(mesh)
    pick = jax.jit(lambda source, items: jax.lax.map(lambda item: feed.pick(source, item), items),
                   out_shardings=placed)  # fmt: skip
    found = []
    with Prefetch(lambda b, e: feed.put(sampler.rows(b, e - b)), plan.end_after) as ready:
        while (end := plan.end_after(first)) is not None:
            chunk = jax.device_get(pick(feed.source, ready.take(first)))
            found += [{name: leaf[i] for name, leaf in chunk.items()} for i in range(end - first)]
            first = end
    return found


def compare(devices: int, fsdp: int) -> None:
    """Compares two epochs of batches of every store with array indexing."""
    mesh, records = mesh_of(devices, fsdp), faces()
    sampler = BatchSampler(records.labels, BATCH, seed=3)
    rows = sampler.rows(0, STEPS)
    for name, feed in feeds(mesh):
        for first, steps in ((0, 4), (5, 1)):
            found = batches(feed, mesh, first, steps)
            assert len(found) == STEPS - first
            for batch, expected in zip(found, rows[first:], strict=True):
                np.testing.assert_array_equal(batch["image"], records.images[expected], name)
                np.testing.assert_array_equal(batch["label"], records.labels[expected], name)
                assert batch["image"].dtype == np.uint8


@pytest.mark.parametrize(("devices", "fsdp"), DEVICES[:3])
def test_batches_equal_array_indexing(devices, fsdp):
    with jax.transfer_guard("disallow"):
        compare(devices, fsdp)


def test_every_feed_brings_distributions_and_the_labels_of_further_heads():
    mesh, votes = mesh_of(2), np.random.default_rng(1).dirichlet(np.ones(3), RECORDS)
    extras = np.where(votes < 0.3, np.nan, votes)[:, :2].astype(np.float32)
    records = dataclasses.replace(faces(), targets=votes.astype(np.float32), extras=extras)
    rows = BatchSampler(records.labels, BATCH, seed=3).rows(0, STEPS)
    for name, feed in feeds(mesh, records):
        for batch, expected in zip(batches(feed, mesh, 0, 5), rows, strict=True):
            np.testing.assert_array_equal(batch["image"], records.images[expected], name)
            np.testing.assert_array_equal(batch["label"], records.targets[expected], name)
            np.testing.assert_array_equal(batch["extras"], extras[expected], name)
            assert batch["label"].dtype == np.float32


@pytest.mark.slow
def test_batches_on_four_devices():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True,
                          text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(case) for case in DEVICES]


@pytest.mark.parametrize(
    ("free", "store", "kept"),
    [
        (7875, "device", RECORDS),  # 40% of it is the size of all images
        (7874, "device", RECORDS // 2),
        (3938, "device", RECORDS // 2),
        (3937, "host", 0),
    ],
)
def test_devices_store_what_fits_into_their_memory(free, store, kept):
    mesh, records = mesh_of(2), faces()
    placement = choose_placement("auto", records.images.nbytes, FreeMemory(free, mesh.size, None))
    assert placement.store == store
    images = make_feed(HostStore(records), placement, mesh).source.get("image")
    shares = [] if images is None else [len(each.data) for each in images.addressable_shards]
    assert shares == ([kept, kept] if kept else [])


COLLECTIVE = re.compile(
    r" = \(?(\w+)\[([\d,]*)\]\S* "
    r"(?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)


@pytest.mark.parametrize("fsdp", [1, 2])
def test_devices_exchange_only_the_batch(fsdp):
    mesh = mesh_of(2, fsdp)
    for name, feed in feeds(mesh):
        item = jax.tree.map(lambda leaf: leaf[0], feed.put(np.arange(BATCH)[None]))
        program = jax.jit(feed.pick, out_shardings=sharding.batch_sharding(mesh))
        found = COLLECTIVE.findall(program.lower(feed.source, item).compile().as_text())
        if name != "sharded":
            assert found == []
            continue
        # The row numbers are gathered, the images summed and scattered: half of the batch each.
        assert sorted(found) == [("s32", f"{BATCH}"), ("u8", f"{BATCH // 2},{SIZE},{SIZE},3")]


def test_prefetch_is_limited():
    made, let = [], threading.Event()

    def make(begin, end):
        made.append((begin, end))
        if begin:
            let.wait()
        return begin

    with Prefetch(make, ChunkPlan(2, (100,)).end_after) as ready:
        assert ready.take(0) == 0
        let.set()
        for step in range(2, 40, 2):
            assert ready.take(step) == step
            assert len(made) <= step // 2 + 3
    assert made == [(step, step + 2) for step in range(0, 2 * len(made), 2)]


def test_an_error_in_the_prefetch_is_raised_by_take():
    def make(begin, end):
        if begin >= 2:
            raise ValueError("a bad picture")
        return begin

    with Prefetch(make, ChunkPlan(1, (9,)).end_after) as ready:
        assert [ready.take(0), ready.take(1)] == [0, 1]
        with pytest.raises(ValueError, match="a bad picture"):
            ready.take(2)


if __name__ == "__main__":
    for case in DEVICES:
        compare(*case)
        print(case)
