"""How one step learns from its batch: the settings, without the mathematics.

The optimizer, the augmentation and what is frozen have settings of their own.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a training step.

    Attributes:
      label_smoothing: share of the target probability spread over all classes.
      focal_gamma: of the focal loss; 0 is the cross-entropy.
      class_weights: of each class in the loss; None weighs all images the same.
      accumulate: parts that a batch is worked through in, one after the other.
      sam_rho: how far sharpness-aware minimisation climbs before it takes the gradient; 0 is
        the plain gradient.
      ema_decay: of the moving average of the weights; 0 keeps none.
      scales_rate: whether the state carries a factor of the learning rate that validation sets.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_weights: tuple[float, ...] | None = None
    accumulate: int = 1
    sam_rho: float = 0.0
    ema_decay: float = 0.0
    scales_rate: bool = False


PLAIN = Recipe()
