"""`data.train_images`: a part of the train split, for learning curves."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from fer_jax import errors
from tfds_builders import prepare as build
from tfds_builders.prepared import sample

LABELS = ["happiness"] * 700 + ["anger"] * 290 + ["disgust"] * 10


@pytest.mark.parametrize("count", [3, 10, 100, 333, 1000])
def test_each_class_keeps_its_share(count):
    chosen = sample(LABELS, count, seed=0)
    counts = collections.Counter(LABELS[image] for image in chosen)
    assert len(chosen) == len(set(chosen)) == count
    assert all(np.diff(chosen) > 0)
    for name, size in collections.Counter(LABELS).items():
        assert counts[name] >= 1
        assert abs(counts[name] - size / len(LABELS) * count) <= 2


def test_smaller_samples_are_parts_of_larger_ones_and_seeds_differ():
    small, large, other = (set(sample(LABELS, *args)) for args in ((50, 0), (200, 0), (50, 1)))
    assert small < large
    assert small != other


@pytest.mark.parametrize("count", [2, 1001])
def test_too_few_or_too_many_images_are_refused(count):
    message = rf"expected data.train_images from 3 .* to 1,000 .*, found {count:,}"
    with pytest.raises(errors.UserError, match=message):
        sample(LABELS, count, seed=0)


def test_only_the_train_split_of_an_opened_set_is_smaller(kdef_data):
    whole = build.prepare("kdef", data_dir=str(kdef_data))
    part = build.prepare("kdef", data_dir=str(kdef_data), train_images=20)
    assert len(part.splits["train"]) == 20
    assert set(part.splits["train"]) < set(whole.splits["train"])
    for split in ("validation", "test"):
        np.testing.assert_array_equal(part.splits[split], whole.splits[split])
    assert part.metadata["digest"] != whole.metadata["digest"]
    total = len(whole.splits["train"])
    assert part.metadata["notes"][-1] == f"20 of {total} training images (data.train_images)"
