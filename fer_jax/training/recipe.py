"""How one training step learns from its batch: settings of the step, without the math.

Optimizer, augmentation and frozen layers have settings of their own.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fer_jax.data.sampling import class_weights
from fer_jax.heads import NO_HEADS, Heads
from fer_jax.settings import Settings


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a training step.

    Attributes:
      label_smoothing: share of the target probability spread over all classes.
      focal_gamma: focal-loss gamma; 0 is plain cross-entropy.
      label_noise: share of the labels that are taken to be wrong; 0 is plain cross-entropy.
      class_weights: weight of each class in the loss; None for equal weights.
      accumulate: number of micro-batches of a step.
      sam_rho: neighborhood radius of sharpness-aware minimization; 0 disables it.
      ema_decay: decay of the moving average of the weights; 0 disables it.
      scales_rate: whether the state holds a learning-rate factor that validation sets.
      heads: of the network.
      heads_weight: weight of the further heads' loss.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    label_noise: float = 0.0
    class_weights: tuple[float, ...] | None = None
    accumulate: int = 1
    sam_rho: float = 0.0
    ema_decay: float = 0.0
    scales_rate: bool = False
    heads: Heads = NO_HEADS
    heads_weight: float = 1.0


PLAIN = Recipe()


def make_recipe(
    settings: Settings, labels: np.ndarray | None = None, heads: Heads = NO_HEADS
) -> Recipe:
    """Returns the recipe of a run.

    Args:
      settings: of the run.
      labels: int[N] of the training records, for class weights; None omits them.
      heads: of the network; only needed to train.
    """
    weights = None
    if settings.train.balance == "class_weights" and labels is not None:
        weights = tuple(class_weights(np.bincount(labels, minlength=heads.classes)).tolist())
    return Recipe(
        label_smoothing=settings.train.label_smoothing,
        focal_gamma=settings.train.focal_gamma,
        label_noise=settings.train.label_noise,
        class_weights=weights,
        accumulate=settings.train.accumulate,
        sam_rho=settings.optim.sam_rho,
        ema_decay=settings.optim.ema_decay,
        scales_rate=settings.optim.schedule == "plateau",
        heads=heads,
        heads_weight=settings.train.heads_weight,
    )
