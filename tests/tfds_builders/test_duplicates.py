"""Near-duplicates: copies are found however they were changed, other faces are not, and quickly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_jax.faces.decode import decode
from tfds_builders import cluster_index, duplicates, leaks
from tfds_builders.encode import encode_jpeg
from tfds_builders.index import Entry
from tfds_builders.synthetic_faces import fixture


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """140 rendered faces of 20 people."""
    records = list(fixture.read("validation"))[:140]
    return [decode(record.jpeg) for record in records]


def looks_of(images) -> np.ndarray:
    return duplicates.stack([duplicates.look(image) for image in images])


def crop(face: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    return face[top : 64 - bottom, left : 64 - right]


def move(face: np.ndarray, degrees: float = 0, x: int = 0, y: int = 0) -> np.ndarray:
    turn = cv2.getRotationMatrix2D((31.5, 31.5), degrees, 1)
    turn[:, 2] += (x, y)
    return cv2.warpAffine(face, turn, (64, 64))


def brighten(face: np.ndarray, by: int) -> np.ndarray:
    return np.clip(face.astype(int) + by, 0, 255).astype(np.uint8)


CHANGES = {
    "same": lambda face: face,
    "recompressed": lambda face: decode(encode_jpeg(face, 40)),
    "smaller": lambda face: cv2.resize(face, (45, 45), interpolation=cv2.INTER_AREA),
    "brighter by 60": lambda face: brighten(face, 60),
    "darker by 60": lambda face: brighten(face, -60),
    "mirrored": lambda face: np.ascontiguousarray(face[:, ::-1]),
    "mirrored, cropped, recompressed": lambda face: decode(
        encode_jpeg(crop(face, 3, 3, 3, 3)[:, ::-1].copy(), 70)
    ),
    "cropped by 5 %": lambda face: crop(face, 2, 2, 2, 2),
    "cropped by 5 % each side": lambda face: crop(face, 3, 3, 3, 3),
    "cropped by 10 % in a corner": lambda face: crop(face, 6, 6, 0, 0),
    "shifted by 5 %": lambda face: move(face, x=3, y=-3),
    "shifted by 10 %": lambda face: move(face, x=6),
    "black border": lambda face: cv2.copyMakeBorder(face, 3, 3, 3, 3, cv2.BORDER_CONSTANT),
    "white border": lambda face: cv2.copyMakeBorder(
        face, 6, 6, 6, 6, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    ),
    "rotated by 5 degrees": lambda face: move(face, 5),
    "rotated by -5 degrees": lambda face: move(face, -5),
}


def test_a_changed_copy_is_a_near_duplicate(faces: list[np.ndarray]) -> None:
    changed = looks_of(change(face) for change in CHANGES.values() for face in faces)
    copies, originals = duplicates.matches(changed, looks_of(faces)).T
    own = copies[copies % len(faces) == originals] // len(faces)
    shares = np.bincount(own, minlength=len(CHANGES)) / len(faces)
    assert dict(zip(CHANGES, shares, strict=True)) == {
        name: pytest.approx(1, abs=0.05 + 1e-9) for name in CHANGES
    }


def test_other_people_are_not_near_duplicates() -> None:
    records = [*list(fixture.read("validation"))[:280], *list(fixture.read("test"))[:280]]
    people = [f"{row // 280} {record.truth['subject']}" for row, record in enumerate(records)]
    pairs, similarities = duplicates.pairs(looks_of(decode(record.jpeg) for record in records))
    assert [pair for pair in pairs if people[pair[0]] != people[pair[1]]] == []
    assert len(pairs) < 30  # similar expressions of one person
    assert (similarities >= duplicates.SIMILARITY).all()


def test_each_pair_is_found_once_and_flat_images_are_none(faces: list[np.ndarray]) -> None:
    flat = [np.full((64, 64, 3), value, np.uint8) for value in (0, 0, 128)]
    images = [faces[0], *flat, faces[7][:, ::-1].copy(), faces[0], faces[7]]
    pairs, _ = duplicates.pairs(looks_of(images))
    assert pairs.tolist() == [[0, 5], [4, 6]]


def test_the_number_of_pairs_is_limited(faces: list[np.ndarray], monkeypatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_NEAREST", 3)
    assert len(duplicates.pairs(looks_of(faces[:1] * 40))[0]) <= 3 * 40
    nothing = looks_of([])
    assert duplicates.pairs(nothing)[0].shape == (0, 2)
    assert duplicates.matches(nothing, looks_of(faces[:2])).shape == (0, 2)


@pytest.mark.parametrize(("kind", "share"), [("noise", 1), ("faces", 0.99)])
def test_the_index_finds_what_comparing_all_finds(
    faces: list[np.ndarray], kind: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("recompressed", "mirrored", "rotated by 5 degrees", "cropped by 5 %")
    images = faces
    if kind == "noise":
        coarse = np.random.default_rng(0).integers(0, 256, (240, 6, 6, 3), np.uint8)
        images = [cv2.resize(one, (64, 64), interpolation=cv2.INTER_CUBIC) for one in coarse]
    looks = looks_of([*images, *(CHANGES[name](image) for name in kinds for image in images)])
    every = set(map(tuple, duplicates.pairs(looks)[0].tolist()))
    monkeypatch.setattr(cluster_index, "PER_LEADER", 32)  # 37 and 21 lists instead of one
    found = set(map(tuple, duplicates.pairs(looks)[0].tolist()))
    assert len(every) >= 3 * len(images)
    assert found <= every
    assert len(found) >= share * len(every)


@pytest.mark.slow
def test_a_hundred_thousand_images_take_minutes() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (100_000, 6, 6), np.uint8)
    looks = np.stack([cv2.resize(one, (24, 24), interpolation=cv2.INTER_CUBIC) for one in coarse])
    looks = looks.reshape(len(looks), -1)
    looks[50_000:50_100] = looks[:100]
    pairs, _ = duplicates.pairs(looks)
    assert {(row, row + 50_000) for row in range(100)} <= set(map(tuple, pairs.tolist()))


def _entry(record_id: str, subject: str, label: str = "fear") -> Entry:
    return Entry(record_id, "pictures", label, subject, "", "haar", b"", "0" * 16)


def test_only_pairs_and_groups_across_splits_are_leaks() -> None:
    entries = [
        _entry("a", "p1"), _entry("b", "p1"), _entry("c", "p2", "anger"), _entry("d", ""),
        _entry("e", ""),
    ]  # fmt: skip
    pairs = np.array([[0, 1], [0, 2], [1, 3], [2, 3], [3, 4]])

    def of(**changed: str) -> np.ndarray:
        splits = {"a": "train", "b": "train", "c": "test", "d": "", "e": "test"} | changed
        return np.array(list(splits.values()))

    assert leaks.count_pairs(pairs, of()) == 1
    assert leaks.count_copies(entries, pairs, of()) == (1, 1)
    assert leaks.count_copies(entries, pairs, of(d="validation")) == (2, 1)
    assert leaks.count_copies(entries, np.array([[3, 4]]), of(d="train")) == (1, 0)
    assert leaks.count_shared(entries, of()) == 0
    assert leaks.count_shared(entries, of(b="validation")) == 1
