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
