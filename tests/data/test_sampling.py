"""Batches: every record once an epoch, another order each, all from seed and step."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.data.sampling import BatchSampler


@pytest.mark.parametrize(("records", "batch"), [(12, 4), (10, 4), (3, 8)])
def test_every_record_once_per_epoch(records, batch):
    sampler = BatchSampler(records, batch, seed=1)
    steps = -(-3 * records // batch)
    order = np.concatenate([sampler.rows(step) for step in range(steps)])
    epochs = [order[k * records : (k + 1) * records] for k in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(records))


def test_epochs_and_seeds_differ_and_repeat():
    first, second = BatchSampler(50, 50, 0), BatchSampler(50, 50, 1)
    assert not np.array_equal(first.rows(0), first.rows(1))
    assert not np.array_equal(first.rows(0), second.rows(0))
    np.testing.assert_array_equal(first.rows(7), BatchSampler(50, 50, 0).rows(7))
