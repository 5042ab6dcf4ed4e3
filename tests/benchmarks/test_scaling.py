"""Tests of benchmarks/scaling.py on programs of known traffic, and of its arithmetic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from benchmarks.scaling import Collective, Machine, collectives_in, efficiency, store_collectives
from fer_jax.runtime import sharding


def compiled(function, *arguments, result) -> str:
    text = jax.jit(function, out_shardings=result).lower(*arguments).compile().as_text()
    assert text is not None
    return text


def test_collectives_of_two_devices():
    mesh = sharding.data_mesh(devices=jax.devices()[:2])
    copied, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    weight = jax.ShapeDtypeStruct((3, 5), jnp.float32, sharding=copied)
    images = jax.ShapeDtypeStruct((4, 3), jnp.float32, sharding=rows)
    gradient = jax.grad(lambda weight, images: ((images @ weight) ** 2).sum())
    # The gradient of a replicated weight is summed over the devices: 3 x 5 x 4 bytes.
    assert collectives_in(compiled(gradient, weight, images, result=copied)) == [
        Collective("all-reduce", 60, 2)
    ]
    # Replicating sharded rows gathers them: 4 x 3 x 4 bytes.
    assert collectives_in(compiled(lambda x: x, images, result=copied)) == [
        Collective("all-gather", 48, 2)
    ]
    assert collectives_in(compiled(lambda x: x * 2, images, result=rows)) == []


def test_collectives_of_a_sharded_store():
    mesh = sharding.data_mesh(devices=jax.devices()[:2])
    assert store_collectives(size=5, batch=6, mesh=mesh) == [
        Collective("all-gather", 6 * 4, 2),
        Collective("reduce-scatter", 6 * 5 * 5 * 3, 2),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "%a = (u8[1,2]{1,0}, /*i=1*/bf16[3]{0}, pred[]) all-reduce(), replica_groups={{0,1,2}}",
            Collective("all-reduce", 2 + 6 + 1, 3),
        ),
        (
            "%a = f32[10]{0} reduce-scatter(%x), replica_groups=[2,4]<=[8]",
            Collective("reduce-scatter", 4 * 40, 4),
        ),
        (
            "%a = s32[7]{0} all-reduce(), replica_groups=mesh['a'=4,'b'=2] {'a','b'}, to_apply=%c",
            Collective("all-reduce", 28, 8),
        ),
        (
            "%a = s8[7]{0} all-gather(), replica_groups=mesh['a'=4,'b'=2], device_ids=([4]) {'b'}",
            Collective("all-gather", 7, 2),
        ),
        ("%b = f32[3]{0} get-tuple-element(%all-reduce.1), index=0", None),
    ],
)
def test_syntax_of_collectives(line, expected):
    assert collectives_in(line) == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    "line",
    ["%a = f32[3]{0} all-reduce-start(%x), replica_groups={{0,1}}",
     "%a = f32[3]{0} all-reduce(%x)"],
)  # fmt: skip
def test_unknown_syntax_is_an_error(line):
    with pytest.raises(ValueError, match="expected"):
        collectives_in(line)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("all-reduce", 150), ("all-gather", 75), ("reduce-scatter", 75), ("collective-permute", 100)],
)
def test_bytes_sent_in_a_ring_of_four(kind, sent):
    assert Collective(kind, 100, 4).sent == sent


def test_efficiency_computed_by_hand():
    machine = Machine("m", devices=4, peak=1000.0, utilization=0.5, bandwidth=30.0, latency=0.25)
    collectives = [Collective("all-reduce", 15, 4), Collective("all-reduce", 5, 4)]
    # 2 images of 1000 operations at 500 per second; 2 x 3/4 x 20 bytes at 30 per second; 2
    # latencies.
    assert efficiency(machine, 1000.0, 2, collectives) == (4.0, 1.5, 4 / 5.5, 4 / 4.5)
