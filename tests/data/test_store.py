"""Tests of image stores, and of the choice of one by free memory."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.data.records import Split
from fer_jax.data.store import FreeMemory, StreamStore, choose_placement, open_store
from fer_jax.errors import UserError

MIB = 2**20


@pytest.mark.parametrize(
    ("requested", "nbytes", "free", "store", "sharded", "says"),
    [
        ("auto", 100, (None, 1, 1000), "host", False, "MiB"),  # CPU devices
        ("auto", 501, (None, 1, 1000), "stream", False, "more than 50% of free memory"),
        ("auto", 10**9, (None, 1, None), "host", False, ""),  # unknown
        ("auto", 400, (1000, 4, 1000), "device", False, "all on each device"),
        ("auto", 401, (1000, 4, 1000), "device", True, "a share on each device"),
        ("auto", 1601, (1000, 4, 9000), "host", False, ""),
        ("auto", 1601, (1000, 4, 3000), "stream", False, ""),
        ("device", 10**9, (None, 2, 1000), "device", False, ""),  # host memory is the device's
        ("device", 1600, (1000, 4, 1000), "device", True, ""),
        ("host", 10**9, (1000, 4, 1000), "host", False, ""),
        ("stream", 1, (1000, 4, 1000), "stream", False, ""),
    ],
)
def test_where_images_are_stored(requested, nbytes, free, store, sharded, says):
    placement = choose_placement(requested, nbytes, FreeMemory(*free))
    assert (placement.store, placement.sharded) == (store, sharded)
    assert says in placement.reason


def test_images_that_do_not_fit_the_devices_are_refused():
    message = "40% of the devices' free memory, found 2.0 MiB .*--config.data.store=host"
    with pytest.raises(UserError, match=message):
        choose_placement("device", 2 * MIB, FreeMemory(MIB, 2, 10 * MIB))


def make_split(records: int = 10, reads: list[int] | None = None) -> Split:
    """Returns constant images with their row number as value; `reads` collects decoded rows."""

    def read(row: int) -> np.ndarray:
        if reads is not None:
            reads.append(row)
        return np.full((4, 4, 3), row, np.uint8)

    ids = tuple(map(str, range(records)))
    return Split(np.zeros(records, np.int32), ids, ids, ("a",), "digest", read)


def test_the_host_store_decodes_each_image_once():
    reads: list[int] = []
    store = open_store(make_split(reads=reads), "host")
    for _ in range(2):
        images = store.images(np.arange(10))
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(10))
    assert sorted(reads) == list(range(10))


@pytest.mark.parametrize("threads", [1, 4])
def test_the_stream_returns_the_images_of_the_host_store(threads):
    rows = np.array([[3, 3, 9], [0, 1, 2]])
    streamed = StreamStore(make_split(), threads).images(rows)
    assert streamed.shape == (2, 3, 4, 4, 3)
    np.testing.assert_array_equal(streamed, open_store(make_split(), "host").images(rows))
