"""Exact evaluation: every record counts once, for any batch size and device count."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fer_jax.data.feed import Feed, HostFeed
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records
from fer_jax.data.store import HostStore
from fer_jax.heads import NO_HEADS, Heads
from fer_jax.models.registry import shared_blocks
from fer_jax.runtime import sharding, xla_options
from fer_jax.training import head_losses, losses, tta
from fer_jax.training.metrics import HeadStepMetrics, StepMetrics, head_sums

Batch = dict[str, jax.Array]

EvalStep = Callable[[dict[str, Any], Batch], tuple[StepMetrics, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
      confusion: int64[C, C], rows are true classes.
      loss_sum: nats, without label smoothing; with the loss of units, weighted.
      probabilities: float32[N, C], in the order of the records.
      extras: float32[N, E], answers of further heads; None if there are none.
      head_sums: float64[K], of `metrics.head_sums`; None without further heads.
    """

    confusion: np.ndarray
    loss_sum: float
    probabilities: np.ndarray
    extras: np.ndarray | None = None
    head_sums: np.ndarray | None = None


def make_eval_function(
    model: nn.Module,
    preprocessing: Preprocessing,
    views: str = "none",
    temperature: float = 1.0,
    heads: Heads = NO_HEADS,
    heads_weight: float = 1.0,
) -> EvalStep:
    """Returns the forward pass with metrics as a pure function, not compiled.

    Args:
      model: the network.
      preprocessing: of the run.
      views: test-time augmentation, one of `settings.TTA_VIEWS`.
      temperature: of the run, see `tta.mean_log_probabilities`.
      heads: of the network.
      heads_weight: weight of the units' loss.

    Returns:
      A function of the variables and a batch with image: uint8[B, H, W, 3], label: int32[B] and
      mask: float32[B] (0 for padded rows, which do not count), to metrics and probabilities
      float32[B, C], averaged over the views. With further heads, the batch also has extras:
      float32[B, E], and the answers of all heads are returned, float32[B, C + E].
    """
    network = shared_blocks(model)

    def eval_step(variables: dict[str, Any], batch: Batch) -> tuple[StepMetrics, jax.Array]:
        def logits_of(images: jax.Array) -> jax.Array:
            return jnp.asarray(
                network.apply(variables, preprocessing.normalized(images), train=False)
            )

        if heads.names:
            answers = tta.mean_answers(logits_of, batch["image"], views, heads, temperature)
            return _head_metrics(answers, batch, heads, heads_weight), answers
        log_p = tta.mean_log_probabilities(logits_of, batch["image"], views, temperature)
        metrics = StepMetrics.single_from_model_output(
            logits=log_p,
            labels=batch["label"],
            losses=losses.cross_entropy(log_p, jax.nn.one_hot(batch["label"], log_p.shape[-1])),
            mask=batch["mask"],
        )
        return metrics, jnp.exp(log_p)

    return eval_step


def _head_metrics(
    answers: jax.Array, batch: Batch, heads: Heads, heads_weight: float
) -> HeadStepMetrics:
    probabilities, extras = heads.split(answers)
    # A probability may underflow to 0.
    log_p = jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))
    values = losses.cross_entropy(log_p, jax.nn.one_hot(batch["label"], heads.classes))
    if units := len(heads.units):
        # The loss takes logits; the answers are means over views. Probabilities of 0 and 1 have
        # none.
        shares = jnp.clip(extras[:, :units], 1e-7, 1 - 1e-7)
        logits = jnp.log(shares) - jnp.log1p(-shares)
        values += heads_weight * head_losses.unit_losses(logits, batch["extras"][:, :units])
    metrics: HeadStepMetrics = HeadStepMetrics.single_from_model_output(
        logits=log_p,
        labels=batch["label"],
        losses=values,
        mask=batch["mask"],
        head_sums=head_sums(extras, batch["extras"], batch["mask"], heads),
    )
    return metrics


class Evaluator:
    """Evaluates a network on all records of a split; may be called repeatedly.

    Args:
      eval_step: of `make_eval_function`.
      feed: of the records.
      records: number of records.
      batch_size: over all devices; the last batch is padded and masked.
      mesh: of the devices.
      options: XLA compiler options; default: those for any network.
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
            compiler_options=xla_options.for_model() if options is None else options,
        )

    def __call__(self, variables: dict[str, Any]) -> Evaluation:
        """Evaluates the network with these variables."""
        fetched, pending = [], None
        for first in range(0, self._records, self._batch):
            rows, mask = padded_rows(first, self._batch, self._records)
            items = self._feed.put(rows[None])
            weights = sharding.put_batch({"mask": mask}, self._mesh)
            dispatched = self._program(variables, self._feed.source, items, weights)
            # Fetching the previous batch now keeps the device busy and few batches in flight.
            if pending is not None:
                fetched.append(jax.device_get(pending))
            pending = dispatched
        fetched.append(jax.device_get(pending))
        confusion = sum(metrics.confusion.compute() for metrics, _ in fetched)
        answers = np.concatenate([rows for _, rows in fetched])[: self._records]
        has_heads = answers.shape[1] > len(confusion)
        return Evaluation(
            confusion=confusion,
            loss_sum=sum(metrics.loss.compute() for metrics, _ in fetched),
            probabilities=answers[:, : len(confusion)],
            extras=answers[:, len(confusion) :] if has_heads else None,
            head_sums=sum(one.heads.compute() for one, _ in fetched) if has_heads else None,
        )


def evaluate_records(
    eval_step: EvalStep,
    variables: dict[str, Any],
    records: Records,
    batch_size: int,
    mesh: Mesh,
    options: dict[str, str] | None = None,
) -> Evaluation:
    """Evaluates the network once on records in main memory."""
    feed = HostFeed(HostStore(records), mesh)
    return Evaluator(eval_step, feed, len(records), batch_size, mesh, options)(variables)


def padded_rows(first: int, batch_size: int, records: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows int64[B] from `first` on, and their mask; rows past the end repeat `first`."""
    rows = np.arange(first, first + batch_size)
    inside = rows < records
    return np.where(inside, rows, first), inside.astype(np.float32)
