"""Tests of batch sampling: class shares, order of epochs, reproducibility."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.data.sampling import (
    POWERS,
    BatchSampler,
    class_weights,
    effective_shares,
)

LABELS = np.repeat([0, 1, 3], [16, 4, 1])  # no record of class 2


def order_of(labels, batch, epochs, balance="none", seed=1):
    sampler = BatchSampler(labels, batch, seed, balance)
    steps = -(-epochs * len(labels) // batch)
    return sampler.rows(0, steps).ravel()[: epochs * len(labels)].reshape(epochs, len(labels))


@pytest.mark.parametrize("balance", ["none", "class_weights"])
@pytest.mark.parametrize(("records", "batch"), [(12, 4), (10, 4), (3, 8)])
def test_each_record_is_used_once_per_epoch(records, batch, balance):
    for epoch in order_of(np.arange(records) % 3, batch, 3, balance):
        assert sorted(epoch) == list(range(records))


def test_epochs_and_seeds_differ_and_are_reproducible():
    labels = np.zeros(50, int)
    first, second = BatchSampler(labels, 50, 0), BatchSampler(labels, 50, -1)
    assert not np.array_equal(first.rows(0), first.rows(1))
    assert not np.array_equal(first.rows(0), second.rows(0))
    np.testing.assert_array_equal(first.rows(7), BatchSampler(labels, 50, 0).rows(7))


@pytest.mark.parametrize("balance", POWERS)
def test_rows_of_several_steps_equal_those_of_single_steps(balance):
    sampler = BatchSampler(LABELS, 8, 3, balance)
    together = sampler.rows(2, 9)
    assert together.shape == (9, 8)
    assert together.dtype == np.int64
    single = [BatchSampler(LABELS, 8, 3, balance).rows(step)[0] for step in range(2, 11)]
    np.testing.assert_array_equal(together, single)


def test_golden_order():
    """May change only with the algorithm; then every run with the same seed gets another order."""
    np.testing.assert_array_equal(
        BatchSampler(np.arange(6) % 2, 6, 0).rows(0, 2), [[4, 2, 0, 5, 1, 3], [2, 4, 1, 3, 0, 5]]
    )


# Places of 21 for classes of 16, 4, 0 and 1 records.
@pytest.mark.parametrize(
    ("balance", "places"),
    [("none", [16, 4, 0, 1]), ("oversample", [7, 7, 0, 7]), ("sqrt", [12, 6, 0, 3])],
)
def test_classes_have_their_share_of_every_epoch(balance, places):
    for epoch in order_of(LABELS, 5, 8, balance):
        assert np.bincount(LABELS[epoch], minlength=4).tolist() == places


def test_no_record_repeats_before_the_others_of_its_class():
    order = order_of(LABELS, 7, 16, "oversample").ravel()
    for name in (0, 1):
        seen = order[LABELS[order] == name]
        # Places are shuffled within an epoch, so two passes may overlap there by one use.
        counts = np.unique(seen, return_counts=True)[1]
        assert len(counts) == (name == LABELS).sum()
        assert counts.max() - counts.min() <= 1


def test_class_weights_have_mean_one_and_balance_present_classes():
    counts = np.bincount(LABELS, minlength=4)
    weights = class_weights(counts)
    assert weights[LABELS].mean() == pytest.approx(1)
    np.testing.assert_allclose(weights * counts, [7, 7, 0, 7])


@pytest.mark.parametrize(
    ("balance", "shares"),
    [
        ("none", [16 / 21, 4 / 21, 0, 1 / 21]),
        ("oversample", [1 / 3, 1 / 3, 0, 1 / 3]),
        ("sqrt", [4 / 7, 2 / 7, 0, 1 / 7]),
        ("class_weights", [1 / 3, 1 / 3, 0, 1 / 3]),
    ],
)
def test_effective_shares(balance, shares):
    counts = np.bincount(LABELS, minlength=4)
    np.testing.assert_allclose(effective_shares(counts, balance), shares)
