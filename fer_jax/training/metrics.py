"""Training and validation metrics on the device, as CLU metrics.

One integer confusion matrix and one loss sum; accuracy and the rest derive from
them on the host. The report's scores live in fer_jax/report.
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
    """Integer confusion matrix: int32[C, C], rows are true classes."""

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
        """The counts of both."""
        return Confusion(counts=self.counts + other.counts)

    def compute(self) -> np.ndarray:
        """int64[C, C]."""
        return np.asarray(self.counts, np.int64)


@flax.struct.dataclass
class LossSum(clu.metrics.Metric):
    """Sum of the per-image loss; divide by the confusion matrix' total."""

    total: jax.Array

    @classmethod
    def from_model_output(cls, losses: jax.Array, mask: jax.Array, **_: jax.Array) -> "LossSum":
        """Adds one batch; rows whose mask is 0 do not count."""
        return cls(total=jnp.sum(losses * mask))

    def merge(self, other: "LossSum") -> "LossSum":
        """The sum of both."""
        return LossSum(total=self.total + other.total)

    def compute(self) -> float:
        """Nats."""
        return float(self.total)


def norm(tree: Any) -> jax.Array:
    """Euclidean norm of all arrays of a tree, a float32 scalar.

    Small arrays are put together first. Each array whose squares are summed alone is three
    operations of the program, and a deep network has hundreds of them; XLA compares each with
    every other when it reads a program back from disk.
    """
    leaves = jax.tree.leaves(tree)
    # What is larger may be split over devices, and is not worth a copy.
    small = [leaf.reshape(-1) for leaf in leaves if leaf.nbytes < sharding.LEAST_SPLIT_BYTES]
    parts = [leaf for leaf in leaves if leaf.nbytes >= sharding.LEAST_SPLIT_BYTES]
    if small:
        parts.append(jnp.concatenate(small))
    return jnp.sqrt(sum(map(sum_of_squares, parts)))


@flax.struct.dataclass
class GradientNorm(clu.metrics.Metric):
    """Euclidean norm of a step's gradient, as it was before any clipping."""

    value: jax.Array

    @classmethod
    def from_model_output(cls, gradient_norm: jax.Array, **_: jax.Array) -> "GradientNorm":
        """Of one step."""
        return cls(value=gradient_norm)

    def merge(self, other: "GradientNorm") -> "GradientNorm":
        """The later one."""
        return other

    def compute(self) -> float:
        """The norm."""
        return float(self.value)


@flax.struct.dataclass
class ParameterNorm(clu.metrics.Metric):
    """Euclidean norm of the parameters that a step leaves."""

    value: jax.Array

    @classmethod
    def from_model_output(cls, parameter_norm: jax.Array, **_: jax.Array) -> "ParameterNorm":
        """Of one step."""
        return cls(value=parameter_norm)

    def merge(self, other: "ParameterNorm") -> "ParameterNorm":
        """The later one."""
        return other

    def compute(self) -> float:
        """The norm."""
        return float(self.value)


@flax.struct.dataclass
class StepMetrics(clu.metrics.Collection):
    """What an evaluation step returns."""

    confusion: Confusion
    loss: LossSum


@flax.struct.dataclass
class TrainMetrics(clu.metrics.Collection):
    """What a training step returns.

    The norms are computed at every step, logged or not: a program must not depend on how
    often people look, and a state with numbers that are not finite must not be saved.
    """

    confusion: Confusion
    loss: LossSum
    gradient_norm: GradientNorm
    parameter_norm: ParameterNorm


def scalars(confusion: np.ndarray, loss_sum: float) -> dict[str, float]:
    """Means over what was counted: loss, accuracy, balanced accuracy and macro F1.

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
