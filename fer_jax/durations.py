"""Durations with units, and their conversion to steps.

"30ep" epochs, "2000st" steps, "50000ex" examples, "5%" of all steps; a plain number has the unit
of its field.
"""

from __future__ import annotations

import dataclasses
import math
import re

from fer_jax.errors import UserError

EPOCHS, STEPS, EXAMPLES, PER_CENT = "ep", "st", "ex", "%"
UNITS = (EPOCHS, STEPS, EXAMPLES, PER_CENT)
_FORM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z%]*)")


@dataclasses.dataclass(frozen=True)
class Duration:
    """An amount of a unit.

    Attributes:
      amount: not negative.
      unit: one of `UNITS`, or the unit of the field's plain numbers.
    """

    amount: float
    unit: str


def parse(field: str, value: object, plain: str, units: tuple[str, ...] = UNITS) -> Duration:
    """Parses the duration of a config field.

    Args:
      field: its name, for messages.
      value: a number, or one with a unit.
      plain: unit of a number without one.
      units: units that the field accepts.

    Raises:
      UserError: not a duration, or one with another unit.
    """
    match = _FORM.fullmatch(str(value).strip().lower())
    number = isinstance(value, int | float | str) and not isinstance(value, bool)
    if not (match and number) or (match[2] and match[2] not in units):
        examples = {EPOCHS: '"30ep"', STEPS: '"2000st"', EXAMPLES: '"50000ex"', PER_CENT: '"5%"'}
        raise UserError(
            f"expected a number of at least 0 for {field}, or one with a unit such as "
            f"{', '.join(examples[unit] for unit in units)}; found {value!r}"
        )
    return Duration(float(match[1]), match[2] or plain)


@dataclasses.dataclass(frozen=True)
class Clock:
    """Converts the durations of a run to steps.

    Attributes:
      batch_size: examples per step.
      epoch_steps: steps per epoch.
      total_steps: steps that per cent refer to; None if not known yet.
    """

    batch_size: int
    epoch_steps: int
    total_steps: int | None = None

    def steps(self, duration: Duration) -> int:
        """Returns the nearest number of steps; at least one if the duration is above zero."""
        exact = {
            STEPS: lambda amount: amount,
            EPOCHS: lambda amount: amount * self.epoch_steps,
            EXAMPLES: lambda amount: amount / self.batch_size,
            PER_CENT: lambda amount: amount * (self.total_steps or 0) / 100,
        }[duration.unit](duration.amount)
        return max(math.floor(exact + 0.5), int(duration.amount > 0))
