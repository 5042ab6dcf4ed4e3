"""The store that fits, and pictures that are decoded once."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from fer_jax.data import pixel_cache
from fer_jax.data.records import Split
from fer_jax.data.store import Room, StreamStore, open_store, place
from fer_jax.errors import UserError

MIB = 2**20


@pytest.mark.parametrize(
    ("wanted", "nbytes", "room", "store", "sharded", "says"),
    [
        ("auto", 100, Room(None, 1, 1000), "host", False, "MiB of pictures"),  # CPU devices
        ("auto", 501, Room(None, 1, 1000), "stream", False, "more than half of the free memory"),
        ("auto", 10**9, Room(None, 1, None), "host", False, ""),  # nobody can tell
        ("auto", 400, Room(1000, 4, 1000), "device", False, "each device has all"),
        ("auto", 401, Room(1000, 4, 1000), "device", True, "each device has its share"),
        ("auto", 1601, Room(1000, 4, 9000), "host", False, ""),
        ("auto", 1601, Room(1000, 4, 3000), "stream", False, ""),
        ("device", 10**9, Room(None, 2, 1000), "device", False, ""),  # its memory is the host's
        ("device", 1600, Room(1000, 4, 1000), "device", True, ""),
        ("host", 10**9, Room(1000, 4, 1000), "host", False, ""),
        ("stream", 1, Room(1000, 4, 1000), "stream", False, ""),
    ],
)
def test_where_pictures_go(wanted, nbytes, room, store, sharded, says):
    placement = place(wanted, nbytes, room)
    assert (placement.store, placement.sharded) == (store, sharded)
    assert says in placement.reason


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("gpu", "expected one of auto, device, host, stream for data.store, found 'gpu'"),
        ("device", "40% of the devices' free memory, found 2.0 MiB .*--config.data.store=host"),
    ],
)
def test_a_place_that_is_none_or_too_small_is_refused(wanted, message):
    with pytest.raises(UserError, match=message):
        place(wanted, 2 * MIB, Room(MIB, 2, 10 * MIB))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path))
    return tmp_path / "pixels"


def make_split(digest="d1", records=10, reads=None) -> Split:
    """Pictures that say which row they are; `reads` gets the rows that were decoded."""
    reads = [] if reads is None else reads

    def read(row):
        reads.append(row)
        return np.full((4, 4, 3), row, np.uint8)

    names = tuple(f"r{i}" for i in range(records))
    return Split(np.zeros(records, np.int32), names, names, ("a",), digest, read)


def test_a_second_start_decodes_nothing(cache):
    reads, rows = [], np.arange(10)
    first = open_store(make_split(reads=reads), "host")
    assert sorted(set(reads)) == list(range(10))
    reads.clear()
    second = open_store(make_split(reads=reads), "host")
    assert reads == []
    np.testing.assert_array_equal(first.images(rows), second.images(rows))
    np.testing.assert_array_equal(second.images(rows)[:, 0, 0, 0], rows)


def test_the_stream_gives_what_the_cache_gives(cache):
    rows = np.array([[3, 3, 9], [0, 1, 2]])
    for threads in (1, 4):
        np.testing.assert_array_equal(
            StreamStore(make_split(), threads).images(rows),
            open_store(make_split(), "host").images(rows),
        )


@pytest.mark.parametrize(
    "other", [{"digest": "d2"}, {"records": 11}], ids=["other data", "other count"]
)
def test_other_pictures_are_decoded(cache, other):
    open_store(make_split(), "host")
    reads = []
    open_store(make_split(**other, reads=reads), "host")
    assert reads


def test_another_opencv_decodes_again(cache, monkeypatch):
    open_store(make_split(), "host")
    monkeypatch.setattr(pixel_cache.cv2, "__version__", "9.9")
    reads = []
    open_store(make_split(reads=reads), "host")
    assert reads


@pytest.mark.parametrize("keep", [0, 60, 400])
def test_a_file_that_was_cut_is_made_again(cache, keep):
    open_store(make_split(), "host")
    (file,) = cache.iterdir()
    os.truncate(file, keep)
    store = open_store(make_split(), "host")
    np.testing.assert_array_equal(store.images(np.arange(10))[:, 0, 0, 0], np.arange(10))


def test_what_was_used_longest_ago_goes_first(cache):
    size = 10 * 4 * 4 * 3 + 128  # with the header of the file
    for index, digest in enumerate(("a", "b", "c")):
        pixel_cache.load_cached(make_split(digest))
        newest = max(cache.iterdir(), key=lambda file: file.stat().st_mtime)
        os.utime(newest, (index, index))
    (cache / ".x.npy.1.tmp").write_bytes(b"of a killed process")
    os.utime(cache / ".x.npy.1.tmp", (1, 1))
    (cache / ".y.npy.2.tmp").write_bytes(b"of one that is at work")
    pixel_cache.load_cached(make_split("a"))  # used again: now the newest
    pixel_cache.load_cached(make_split("d"), most_bytes=3 * size)
    reads = []
    for digest in ("a", "c", "d"):
        pixel_cache.load_cached(make_split(digest, reads=reads))
    assert reads == []
    assert len(list(cache.glob("*.npy"))) == 3
    assert [file.name for file in cache.glob(".*.tmp")] == [".y.npy.2.tmp"]
    assert time.time() - min(file.stat().st_mtime for file in cache.glob("*.npy")) < 60


@pytest.mark.parametrize("why", ["a file is in the way", "too large"])
def test_without_a_cache_pictures_stay_in_memory(cache, why):
    said, most = [], pixel_cache.MOST_BYTES
    if why == "too large":
        most = 100
        pixel_cache.load_cached(make_split("other"))
    else:
        cache.write_text("")
    records = pixel_cache.load_cached(make_split(), said.append, most)
    np.testing.assert_array_equal(records.images[:, 0, 0, 0], np.arange(10))
    assert len(said) == 1
    assert "are not kept in" in said[0]
    if why == "too large":
        assert len(list(cache.iterdir())) == 1  # nothing was deleted for it
