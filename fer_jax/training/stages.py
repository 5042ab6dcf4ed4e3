"""Training in parts: the head first, then more of the network at a lower rate.

Each stage has its own optimizer, which begins without memory. A run of one stage is the
usual case.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import optax

from fer_jax.training.freezing import Frozen


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of training with one set of learning parameters and one schedule.

    Attributes:
      start: steps of the run before it.
      end: steps of the run when it is over.
      frozen: what does not learn in it.
      optimizer: of what learns.
      schedule: the learning rate by the step within the stage.
    """

    start: int
    end: int
    frozen: Frozen
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule

    def rate(self, step: int) -> float:
        """The learning rate of the step that made the run `step` steps long."""
        within = jax.device_put(np.int32(step - self.start - 1))
        # Explicitly and in one program: the loop runs under a transfer guard in tests.
        return float(jax.device_get(jax.jit(self.schedule)(within)))
