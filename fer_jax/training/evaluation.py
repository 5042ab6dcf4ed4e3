"""Exact evaluation: every record counts once, whatever the batch size or device count."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from fer_jax.data.feed import Feed, HostFeed
from fer_jax.data.records import Records
from fer_jax.data.store import HostStore
from fer_jax.runtime import sharding
from fer_jax.runtime import xla_options as compiler
from fer_jax.training.metrics import StepMetrics
from fer_jax.training.step import EvalStep


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


class Evaluator:
    """Runs a network over all records of a split, as often as it is called.

    Args:
      eval_step: the forward pass.
      feed: of the records.
      records: number of them.
      batch_size: over all devices; the last batch is padded and masked.
      mesh: of the devices.
      options: of the compiler; by default those for any network.
    """

    def __init__(
        self,
        eval_step: EvalStep,
        feed: Feed,
        records: int,
        batch_size: int,
        mesh: Mesh,
        options: dict[str, str] | None = None,
    ) -> None:
        self._feed, self._records, self._batch, self._mesh = feed, records, batch_size, mesh

        def program(
            variables: dict[str, Any], source: Any, items: Any, mask: dict[str, jax.Array]
        ) -> tuple[StepMetrics, jax.Array]:
            batch = feed.pick(source, jax.tree.map(lambda leaf: leaf[0], items))
            return eval_step(sharding.gathered(variables, mesh), {**batch, **mask})

        self._program = jax.jit(
            program,
            out_shardings=sharding.replicated(mesh),
            compiler_options=compiler.options() if options is None else options,
        )

    def __call__(self, variables: dict[str, Any]) -> Evaluation:
        """Evaluates with the given variables."""
        fetched, waiting = [], None
        for first in range(0, self._records, self._batch):
            rows, mask = padded_rows(first, self._batch, self._records)
            items = self._feed.put(rows[None])
            weights = sharding.put_batch({"mask": mask}, self._mesh)
            running = self._program(variables, self._feed.source, items, weights)
            # The batch before is fetched now: the device has work, and few batches pile up.
            if waiting is not None:
                fetched.append(jax.device_get(waiting))
            waiting = running
        fetched.append(jax.device_get(waiting))
        return Evaluation(
            confusion=sum(metrics.confusion.compute() for metrics, _ in fetched),
            loss_sum=sum(metrics.loss.compute() for metrics, _ in fetched),
            probabilities=np.concatenate([found for _, found in fetched])[: self._records],
        )


def evaluate_records(
    eval_step: EvalStep,
    variables: dict[str, Any],
    records: Records,
    batch_size: int,
    mesh: Mesh,
    options: dict[str, str] | None = None,
) -> Evaluation:
    """Runs the network over records in main memory, once."""
    feed = HostFeed(HostStore(records), mesh)
    return Evaluator(eval_step, feed, len(records), batch_size, mesh, options)(variables)


def padded_rows(first: int, batch_size: int, records: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows from `first` on, int64[B]; those past the end repeat the first one under mask 0."""
    rows = np.arange(first, first + batch_size)
    inside = rows < records
    return np.where(inside, rows, first), inside.astype(np.float32)
