"""Exact evaluation: every record counts once, whatever the batch size or device count."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax.sharding import Mesh

from fer_jax.data.records import Records
from fer_jax.engine import sharding
from fer_jax.engine.metrics import StepMetrics
from fer_jax.engine.steps import EvalStep


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a network says about a split.

    Attributes:
      confusion: int64[C, C], rows are true classes.
      loss_sum: nats, without label smoothing.
      probabilities: float32[N, C], in the order of the records.
    """

    confusion: np.ndarray
    loss_sum: float
    probabilities: np.ndarray


def evaluate_records(
    eval_step: EvalStep, variables: dict[str, Any], records: Records, batch_size: int, mesh: Mesh
) -> Evaluation:
    """Runs the network over all records; the last batch is padded and masked."""
    probabilities = []
    total: StepMetrics | None = None
    for first in range(0, len(records), batch_size):
        batch = padded_batch(records, first, batch_size)
        metrics, batch_probabilities = eval_step(variables, sharding.put_batch(batch, mesh))
        total = metrics if total is None else total.merge(metrics)
        probabilities.append(batch_probabilities)
    assert total is not None, "load_records refuses empty splits"
    computed = total.compute()
    return Evaluation(
        confusion=computed["confusion"],
        loss_sum=computed["loss"],
        probabilities=np.concatenate([np.asarray(p) for p in probabilities])[: len(records)],
    )


def padded_batch(records: Records, first: int, batch_size: int) -> dict[str, np.ndarray]:
    """Records from `first` on; rows past the end repeat the first one under mask 0."""
    rows = np.arange(first, first + batch_size)
    inside = rows < len(records)
    rows = np.where(inside, rows, first)
    return {
        "image": records.images[rows],
        "label": records.labels[rows],
        "mask": inside.astype(np.float32),
    }
