"""Near-duplicates: copies are found, other faces are not; all pairs are found, quickly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_jax.faces.decode import decode
from tfds_builders import duplicates, leaks
from tfds_builders.encode import encode_jpeg
from tfds_builders.index import Entry
from tfds_builders.synthetic_faces import fixture


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """140 rendered faces of 20 people."""
    records = list(fixture.read("validation"))[:140]
    return [decode(record.jpeg) for record in records]


def _near(one: np.ndarray, other: np.ndarray) -> bool:
    return len(duplicates.pairs([duplicates.look(one), duplicates.look(other)])) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda face: face,
        lambda face: decode(encode_jpeg(face, 60)),
        lambda face: cv2.resize(face, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
        lambda face: np.clip(face * 1.2 + 8, 0, 255).astype(np.uint8),
    ],
    ids=["same", "compressed", "smaller", "brighter"],
)
def test_a_modified_copy_is_a_near_duplicate(change, faces: list[np.ndarray]) -> None:
    assert np.mean([_near(face, change(face)) for face in faces]) >= 0.9


def test_other_people_and_expressions_are_not_near_duplicates(faces: list[np.ndarray]) -> None:
    # One pair of expressions of the third person may be within the thresholds.
    assert len(duplicates.pairs([duplicates.look(face) for face in faces])) <= 1


def test_every_pair_within_the_thresholds_is_found_once() -> None:
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 256, (300, duplicates.LOOK_BYTES), np.uint8)
    looks[150:] = looks[:150]  # copies with some bits flipped
    for row in looks[150:]:
        coarse, fine = rng.integers(0, 7), rng.integers(0, 50)
        for bit in (*rng.choice(64, coarse, False), *(64 + rng.choice(256, fine, False))):
            row[bit // 8] ^= 1 << (bit % 8)
    bits = np.unpackbits(looks, axis=1)
    different = bits[:, None] != bits[None]
    near = different[..., :64].sum(-1) <= duplicates.COARSE_BITS
    near &= different[..., 64:].sum(-1) <= duplicates.FINE_BITS
    expected = np.argwhere(np.triu(near, 1))
    assert 30 < len(expected) < 150
    found = duplicates.pairs([row.tobytes() for row in looks])
    np.testing.assert_array_equal(found, expected)


def test_the_number_of_pairs_is_limited(monkeypatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 500)
    assert len(duplicates.pairs([bytes(duplicates.LOOK_BYTES)] * 100)) == 500
    assert duplicates.pairs([]).shape == (0, 2)


@pytest.mark.slow
def test_a_hundred_thousand_images_take_seconds() -> None:
    looks = np.random.default_rng(0).integers(0, 256, (100_000, duplicates.LOOK_BYTES), np.uint8)
    looks[50_000:50_100] = looks[:100]
    assert len(duplicates.pairs([row.tobytes() for row in looks])) == 100


def _entry(record_id: str, subject: str) -> Entry:
    return Entry(record_id, "pictures", "fear", subject, "", "haar", bytes(40), "0" * 16)


def test_only_pairs_and_groups_across_splits_are_leaks(tmp_path) -> None:
    entries = [_entry("a", "p1"), _entry("b", "p1"), _entry("c", "p2"), _entry("d", "")]
    pairs = np.array([[0, 1], [0, 2], [1, 3], [2, 3]])
    leaks.write_pairs(tmp_path, entries, pairs)
    np.testing.assert_array_equal(leaks.read_pairs(tmp_path, entries), pairs)
    assigned = {"a": "train", "b": "train", "c": "test"}  # d is not used
    assert leaks.count_pairs(entries, pairs, assigned) == 1
    assert leaks.count_shared(entries, assigned) == 0
    assert leaks.count_shared(entries, assigned | {"b": "validation"}) == 1
