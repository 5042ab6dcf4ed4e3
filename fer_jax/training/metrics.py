"""Training and validation metrics on the device, as CLU metrics.

An integer confusion matrix and a loss sum; accuracy and the rest are derived from them on the
host. The report's scores are in fer_jax/report.
"""

# No `from __future__ import annotations` here: CLU reads a collection's metrics from its
# annotations and needs them as classes.
from typing import Any

import clu.metrics
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.heads import Heads, concordance
from fer_jax.models.layers.sums import sum_of_squares
from fer_jax.runtime import sharding


@flax.struct.dataclass
class Confusion(clu.metrics.Metric):
    """Integer confusion matrix int32[C, C]; rows are true classes."""

    counts: jax.Array

    @classmethod
    def from_model_output(
        cls, logits: jax.Array, labels: jax.Array, mask: jax.Array, **_: jax.Array
    ) -> "Confusion":
        """Counts one batch; rows whose mask is 0 do not count."""
        classes = logits.shape[-1]
        predicted = logits.argmax(axis=-1)
        cells = labels * classes + predicted
        counts = jnp.zeros(classes * classes, jnp.int32).at[cells].add(mask.astype(jnp.int32))
        return cls(counts=counts.reshape(classes, classes))

    def merge(self, other: "Confusion") -> "Confusion":
        """Adds the counts."""
        return Confusion(counts=self.counts + other.counts)

    def compute(self) -> np.ndarray:
        """int64[C, C]."""
        return np.asarray(self.counts, np.int64)


@flax.struct.dataclass
class LossSum(clu.metrics.Metric):
    """Sum of the per-image loss; divide by the total of the confusion matrix."""

    total: jax.Array

    @classmethod
    def from_model_output(cls, losses: jax.Array, mask: jax.Array, **_: jax.Array) -> "LossSum":
        """Adds one batch; rows whose mask is 0 do not count."""
        return cls(total=jnp.sum(losses * mask))

    def merge(self, other: "LossSum") -> "LossSum":
        """Adds the sums."""
        return LossSum(total=self.total + other.total)

    def compute(self) -> float:
        """Nats."""
        return float(self.total)


@flax.struct.dataclass
class HeadSums(clu.metrics.Metric):
    """Sums that the scores of further heads are computed from, see `head_sums`: float32[K]."""

    values: jax.Array

    @classmethod
    def from_model_output(cls, head_sums: jax.Array, **_: jax.Array) -> "HeadSums":
        """Takes the sums of one batch."""
        return cls(values=head_sums)

    def merge(self, other: "HeadSums") -> "HeadSums":
        """Adds the sums."""
        return HeadSums(values=self.values + other.values)

    def compute(self) -> np.ndarray:
        """float64[K]."""
        return np.asarray(self.values, np.float64)


def norm(tree: Any) -> jax.Array:
    """Returns the L2 norm over all arrays of a tree, a float32 scalar.

    Small arrays are concatenated first: each array summed alone adds three operations to the
    program, a deep network has hundreds of arrays, and XLA compares each operation with every
    other when it deserializes a program.
    """
    leaves = jax.tree.leaves(tree)
    # Larger arrays may be sharded, and are not worth a copy.
    small = [leaf.reshape(-1) for leaf in leaves if leaf.nbytes < sharding.MIN_SPLIT_BYTES]
    parts = [leaf for leaf in leaves if leaf.nbytes >= sharding.MIN_SPLIT_BYTES]
    if small:
        parts.append(jnp.concatenate(small))
    return jnp.sqrt(sum(map(sum_of_squares, parts)))


@flax.struct.dataclass
class GradientNorm(clu.metrics.Metric):
    """L2 norm of a step's gradient before clipping."""

    value: jax.Array

    @classmethod
    def from_model_output(cls, gradient_norm: jax.Array, **_: jax.Array) -> "GradientNorm":
        """Takes the norm of one step."""
        return cls(value=gradient_norm)

    def merge(self, other: "GradientNorm") -> "GradientNorm":
        """Returns the later norm."""
        return other

    def compute(self) -> float:
        """The norm."""
        return float(self.value)


@flax.struct.dataclass
class ParameterNorm(clu.metrics.Metric):
    """L2 norm of the parameters after a step."""

    value: jax.Array

    @classmethod
    def from_model_output(cls, parameter_norm: jax.Array, **_: jax.Array) -> "ParameterNorm":
        """Takes the norm of one step."""
        return cls(value=parameter_norm)

    def merge(self, other: "ParameterNorm") -> "ParameterNorm":
        """Returns the later norm."""
        return other

    def compute(self) -> float:
        """The norm."""
        return float(self.value)


@flax.struct.dataclass
class StepMetrics(clu.metrics.Collection):
    """Returned by an evaluation step."""

    confusion: Confusion
    loss: LossSum


@flax.struct.dataclass
class TrainMetrics(clu.metrics.Collection):
    """Returned by a training step.

    The norms are computed at every step, logged or not: the program must not depend on the
    logging interval, and a state with NaN or Inf must not be saved.
    """

    confusion: Confusion
    loss: LossSum
    gradient_norm: GradientNorm
    parameter_norm: ParameterNorm


@flax.struct.dataclass
class HeadStepMetrics(clu.metrics.Collection):
    """`StepMetrics` of a network with further heads; CLU does not see inherited metrics."""

    confusion: Confusion
    loss: LossSum
    heads: HeadSums


@flax.struct.dataclass
class HeadTrainMetrics(clu.metrics.Collection):
    """`TrainMetrics` of a network with further heads."""

    confusion: Confusion
    loss: LossSum
    gradient_norm: GradientNorm
    parameter_norm: ParameterNorm
    heads: HeadSums


def head_sums(predicted: jax.Array, labels: jax.Array, mask: jax.Array, heads: Heads) -> jax.Array:
    """Returns true and false positives and false negatives of each unit, then moments, float32[K].

    The moments of valence and of arousal are the sums of 1, x, y, x², y² and xy, where x is the
    prediction and y the label.

    Args:
      predicted: float32[B, E]: probabilities of units, then valence and arousal.
      labels: float32[B, E], NaN where unknown; a unit is shown from 0.5 on.
      mask: float32[B], 0 for rows that do not count.
      heads: of the network.
    """
    known = ~jnp.isnan(labels) & (mask > 0)[:, None]
    units, parts = len(heads.units), []
    if units:
        shown, seen = labels[:, :units] >= 0.5, predicted[:, :units] >= 0.5
        counted = jnp.stack([shown & seen, ~shown & seen, shown & ~seen], axis=-1)
        parts.append((counted & known[:, :units, None]).sum(axis=0).reshape(-1))
    if heads.affect:
        x, y = predicted[:, units:], labels[:, units:]
        terms = jnp.stack([jnp.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
        parts.append(jnp.where(known[:, units:, None], terms, 0.0).sum(axis=0).reshape(-1))
    return jnp.concatenate([part.astype(jnp.float32) for part in parts])


def head_scalars(sums: np.ndarray, heads: Heads) -> dict[str, float]:
    """Returns units_f1, the mean over the units that occur, and ccc, the mean of two; if any.

    Args:
      sums: float64[K], of `head_sums`.
      heads: of the network.
    """
    units, found = len(heads.units), {}
    if units:
        hits, false, missed = sums[: 3 * units].reshape(units, 3).T
        occurs = hits + missed > 0
        f1 = 2 * hits[occurs] / (2 * hits + false + missed)[occurs]
        found["units_f1"] = float(f1.mean()) if occurs.any() else 0.0
    if heads.affect:
        moments = sums[3 * units :].reshape(2, 6)
        found["ccc"] = float(concordance(moments).mean())
    return found


def scalars(confusion: np.ndarray, loss_sum: float) -> dict[str, float]:
    """Returns loss, accuracy, balanced accuracy and macro F1.

    The last two are means over the classes that occur.

    Args:
      confusion: int64[C, C], rows are true classes.
      loss_sum: nats.
    """
    support = confusion.sum(axis=1)
    present = support > 0
    hits = np.diag(confusion)[present]
    recall = hits / support[present]
    f1 = 2 * hits / (support + confusion.sum(axis=0))[present]
    total = int(confusion.sum())
    return {
        "loss": loss_sum / total,
        "accuracy": float(np.trace(confusion)) / total,
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
    }
