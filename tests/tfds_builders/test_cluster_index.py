"""The index of near vectors: finds what comparing all finds, in as many comparisons per query."""

from __future__ import annotations

import numpy as np
import pytest

from tfds_builders import cluster_index


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((count, 16)))


def comparisons(vectors: np.ndarray) -> float:
    """Vectors that a query is compared with, on average, if the vectors are the queries."""
    groups = cluster_index.Index(vectors).groups(vectors)
    return sum(len(queries) * len(rows) for queries, rows in groups) / len(vectors)


@pytest.mark.parametrize("count", [1, 700, 6_000])
def test_near_vectors_are_found(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_index, "_TOP", 16)
    monkeypatch.setattr(cluster_index, "_RATIO", 4)  # 6,000 vectors: 5, 23 and 93 leaders
    vectors = noise(count)
    queries = unit(vectors + 0.05 * np.random.default_rng(1).standard_normal(vectors.shape))
    asked, found = [], 0
    for rows, others in cluster_index.Index(vectors).groups(queries):
        asked += rows.tolist()
        found += np.isin(rows, others).sum()
    assert sorted(asked) == list(range(count))
    assert found >= 0.99 * count


def test_the_comparisons_of_a_query_do_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_index, "PER_LEADER", 16)
    assert comparisons(noise(24_000)) < 1.2 * comparisons(noise(3_000))


def test_copies_of_one_vector_do_not_make_it_quadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_index, "LONGEST", 100)
    copies = np.repeat(noise(1), 3_000, axis=0)
    assert comparisons(np.concatenate([copies, noise(1_000, 1)])) <= 100
