"""Records: what array_record holds comes into memory as it is, and wrong records are named."""

from __future__ import annotations

import types

import cv2
import numpy as np
import pytest

from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import decode_picture, load_records, open_split
from fer_jax.errors import UserError

PICTURE = np.random.default_rng(0).integers(0, 256, (10, 14, 3), np.uint8)


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def builder(records: list[dict], split: str = "train", pictures: str = "faces"):
    """The part of a TFDS builder that is read, over records in memory."""
    splits = {"train": types.SimpleNamespace(num_examples=0)}
    splits[split] = types.SimpleNamespace(num_examples=len(records))
    features = {"label": types.SimpleNamespace(names=["a", "b"])}
    info = types.SimpleNamespace(
        splits=splits, features=features, full_name="set/1.0.0", metadata={"pictures": pictures}
    )
    return types.SimpleNamespace(info=info, as_data_source=lambda split, decoders: records)


def record(name: str, label: int = 0, image: bytes | None = None) -> dict:
    return {"image": image or png(PICTURE), "label": label, "id": name.encode(), "subject": b"s1",
            "face_box": np.array([3, 2, 6, 4])}  # fmt: skip


def test_pictures_come_as_rgb_at_the_size_in_order():
    rows = [record(f"r{i}", i % 2) for i in range(9)]
    rows[4]["image"] = png(PICTURE[::-1])
    records = load_records(builder(rows), "train", Preprocessing(10, "unit"))
    assert records.images.shape == (9, 10, 10, 3)
    expected = cv2.resize(PICTURE[::-1], (10, 10), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(records.images[4], expected)
    assert records.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert records.ids[4] == "r4"
    assert records.groups == ("s1",) * 9


def test_the_digest_tells_data_apart():
    def digest(size=8, names=("a", "b"), **changes):
        some = builder([record("r0"), record("x") | changes])
        some.info.features["label"].names = list(names)
        return open_split(some, "train", Preprocessing(size, "unit")).digest

    digests = [digest(), digest(image=png(PICTURE[::-1])), digest(label=1), digest(id=b"y"),
               digest(subject=b"s2"), digest(names=("b", "a")), digest(size=9)]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert digests[0] == digest()


def test_opening_a_split_decodes_no_picture():
    split = open_split(builder([record("r0", image=b"-")]), "train", Preprocessing(8, "unit"))
    assert (len(split), split.ids) == (1, ("r0",))
    with pytest.raises(UserError, match="cannot be decoded"):
        split.read(0)


@pytest.mark.parametrize(
    ("rows", "split", "message"),
    [
        ([record("r0")], "test", "expected records in split 'test'.*splits with records: train"),
        ([record("r0", image=b"no picture")], "train", "10 bytes that cannot be decoded in r0"),
        ([record("r0", image=png(PICTURE)[:60])], "train", "cannot be decoded in r0"),
        ([record("r0", 2)], "train", r"expected labels 0 to 1 \(a, b\), found 2 to 2"),
        ([record("r0"), record("r0")], "train", "unique record ids"),
    ],
)
def test_wrong_records_are_named(rows, split, message):
    with pytest.raises(UserError, match=message):
        load_records(builder(rows), split, Preprocessing(8, "unit"))


def test_an_empty_picture_is_no_picture():
    with pytest.raises(UserError, match="found 0 bytes"):
        decode_picture(b"", "x")


def test_whole_pictures_are_cut_to_the_face():
    whole = builder([record("r0")], pictures="whole")
    records = load_records(whole, "train", Preprocessing(8, "unit", face_margin=1 / 6))
    # Box (3, 2, 6, 4): centre (6, 4), longer side 6, one pixel more on each side.
    np.testing.assert_array_equal(records.images[0], PICTURE[0:8, 2:10])


def test_pictures_that_are_cut_already_are_not_cut_again():
    with pytest.raises(UserError, match="cut to the face already; leave --config"):
        load_records(builder([record("r0")]), "train", Preprocessing(8, "unit", face_margin=0.1))
