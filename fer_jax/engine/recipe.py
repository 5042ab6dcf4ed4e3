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
      ema_decay: of the moving average of the weights; 0 keeps none.
      scales_rate: whether the state carries a factor of the learning rate that validation sets.
    """

    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    scales_rate: bool = False


PLAIN = Recipe()
