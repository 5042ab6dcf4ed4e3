"""Tests of the records of a split."""

from __future__ import annotations

import dataclasses
import hashlib
import types

import cv2
import numpy as np
import pytest

from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import (
    Records,
    decode_all,
    decode_image,
    decode_on_demand,
    find_heads,
    open_split,
)
from fer_jax.errors import UserError
from fer_jax.heads import Heads

PICTURE = np.random.default_rng(0).integers(0, 256, (10, 14, 3), np.uint8)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def load_records(*arguments) -> Records:
    return decode_all(open_split(*arguments))


def prepared(records: list[dict], split: str = "train", pictures: str = "face", names="ab"):
    """Returns a prepared set with records in memory."""
    entries = [
        types.SimpleNamespace(
            id=one["id"].decode(), subject=one["subject"].decode(),
            digest=hashlib.sha256(one["image"]).hexdigest(),
        )
        for one in records
    ]  # fmt: skip
    rows = np.arange(len(records))[::-1]  # protocols may list rows in any order
    return types.SimpleNamespace(
        full_name="set/face/1.0.0 subject",
        label_names=tuple(names),
        entries=entries,
        splits={"train": rows[:0], split: rows},
        metadata={"pictures": pictures},
        labels=lambda _: np.array([records[row]["label"] for row in rows], np.int32),
        record=records.__getitem__,
    )


def record(name: str, label: int = 0, image: bytes | None = None, subject: bytes = b"s1") -> dict:
    return {"image": png(PICTURE) if image is None else image, "label": label,
            "id": name.encode(), "subject": subject, "face_box": np.array([3, 2, 6, 4]),
            "landmarks": np.full((5, 2), np.nan)}  # fmt: skip


def test_images_are_rgb_resized_and_in_protocol_order():
    rows = [record(f"r{i}", i % 2) for i in range(8)]
    rows[3]["image"] = png(PICTURE[::-1])
    records = load_records(prepared(rows), "train", Preprocessing(10, "unit"))
    assert records.images.shape == (8, 10, 10, 3)
    expected = cv2.resize(PICTURE[::-1], (10, 10), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(records.images[4], expected)
    assert records.labels.tolist() == [1, 0, 1, 0, 1, 0, 1, 0]
    assert records.ids[:2] == ("r7", "r6")
    assert records.groups == ("s1",) * 8


def test_different_data_has_different_digests():
    def digest(size=8, names="ab", mask="none", **changes):
        some = prepared([record("r0"), record("x") | changes], names=names)
        return open_split(some, "train", Preprocessing(size, "unit", mask=mask)).digest

    digests = [digest(), digest(image=png(PICTURE[::-1])), digest(label=1), digest(id=b"y"),
               digest(subject=b"s2"), digest(names="ba"), digest(size=9),
               digest(mask="ellipse")]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert digests[0] == digest()


def test_labels_of_further_heads_are_read_and_are_in_the_digest():
    some, nan = prepared([record("r0"), record("r1", 1)]), float("nan")
    units, affect = np.array([[1, nan], [0, 1]], "f4"), np.array([[0.5, -1], [nan, nan]], "f4")
    some.unit_names, some.units, some.affect = ("AU04", "AU12"), {"train": units}.get, {}.get
    heads = find_heads(some, ("units",))
    assert heads == Heads(2, ("AU04", "AU12"))
    plain, wanted = (open_split(some, "train", Preprocessing(8, "unit"), heads=one)
                     for one in (Heads(2), heads))  # fmt: skip
    assert plain.extras is None
    assert plain.digest != wanted.digest
    np.testing.assert_array_equal(decode_all(wanted).extras, units)
    both = find_heads(some, ("units", "valence_arousal"))
    with pytest.raises(UserError, match=r"valence and arousal.*found set/face/1\.0\.0 subject"):
        open_split(some, "train", Preprocessing(8, "unit"), heads=both)
    some.affect = {"train": affect}.get
    found = open_split(some, "train", Preprocessing(8, "unit"), heads=both)
    np.testing.assert_array_equal(found.extras, np.concatenate([units, affect], axis=1))
    some.unit_names = ()
    with pytest.raises(UserError, match=r"stores action units for model\.heads=units"):
        find_heads(some, ("units",))


def test_votes_are_the_targets_of_training_if_requested():
    some, votes = prepared([record("r0"), record("r1", 1)]), np.array([[0.3, 0.7], [1, 0]], "f4")
    some.votes = {"train": votes}.get
    plain, wanted = (open_split(some, "train", Preprocessing(8, "unit"), targets)
                     for targets in ("majority", "votes"))  # fmt: skip
    assert plain.targets is None
    np.testing.assert_array_equal(decode_all(wanted).targets, votes)
    np.testing.assert_array_equal(wanted.labels, plain.labels)
    some.votes = {"train": votes[::-1]}.get
    other = open_split(some, "train", Preprocessing(8, "unit"), "votes")
    assert len({plain.digest, wanted.digest, other.digest}) == 3
    some.votes = {}.get
    with pytest.raises(UserError, match=r"stores votes.*found set/face/1\.0\.0 subject.*majority"):
        open_split(some, "train", Preprocessing(8, "unit"), "votes")


def test_images_on_demand_are_those_in_memory_and_not_kept():
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    some = prepared([record(f"r{row}", image=png(image)) for row, image in enumerate(images)])
    split = open_split(some, "train", Preprocessing(8, "unit"))
    asked = []
    counted = dataclasses.replace(split, read=lambda row: asked.append(row) or split.read(row))
    found, wanted = decode_on_demand(counted), decode_all(split)
    assert (found.ids, found.digest, len(found.images)) == (wanted.ids, wanted.digest, 6)
    assert found.images.shape == wanted.images.shape
    for index in (2, np.int64(5), [4, 0], np.array([[1, 2], [3, 3]]), slice(1, 3)):
        asked.clear()
        np.testing.assert_array_equal(found.images[index], wanted.images[index])
        assert sorted(asked) == sorted(np.arange(6)[index].ravel().tolist())
    part = found.images.subset(np.array([5, 1]))
    np.testing.assert_array_equal(part[np.array([1, 0])], wanted.images[[1, 5]])


def test_opening_a_split_reads_no_images():
    some = prepared([record("r0", image=b"-")])
    some.record = None
    split = open_split(some, "train", Preprocessing(8, "unit"))
    assert (len(split), split.ids) == (1, ("r0",))


@pytest.mark.parametrize(
    ("rows", "split", "message"),
    [
        ([record("r0")], "test", "expected records in split 'test'.*splits with records: train"),
        (
            [record("r0", image=b"no picture")],
            "train",
            "record r0, found 10 bytes that cannot be decoded",
        ),
        (
            [record("r0", image=png(PICTURE)[:60])],
            "train",
            "record r0, found 60 bytes that cannot be decoded",
        ),
        ([record("r0", 2)], "train", r"expected labels 0 to 1 \(a, b\), found 2 to 2"),
        ([record("r0"), record("r0")], "train", "unique record ids"),
    ],
)
def test_invalid_records_are_reported(rows, split, message):
    with pytest.raises(UserError, match=message):
        load_records(prepared(rows), split, Preprocessing(8, "unit"))


def test_empty_bytes_are_no_image():
    with pytest.raises(UserError, match="found 0 bytes"):
        decode_image(b"", "x")


def test_whole_images_are_cropped_to_the_face():
    whole = prepared([record("r0")], pictures="whole")
    records = load_records(whole, "train", Preprocessing(8, "unit", face_margin=1 / 6))
    # Box (3, 2, 6, 4): center (6, 4), longer side 6, widened by one pixel on each side.
    np.testing.assert_array_equal(records.images[0], PICTURE[0:8, 2:10])


def test_cropped_images_are_not_cropped_again():
    with pytest.raises(UserError, match="cropped to the face already; leave --config"):
        load_records(prepared([record("r0")]), "train", Preprocessing(8, "unit", face_margin=0.1))
