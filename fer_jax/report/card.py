"""What was evaluated, and what its figures cannot mean.

A card travels with every report; it holds no scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ReportCard:
    """The circumstances of one evaluation.

    Attributes:
      run: name of the run.
      dataset: name of the data set.
      config: its builder config, or the config file; "" where there is none.
      protocol: how the splits were made, as the builder states it.
      split: the split evaluated.
      model: name of the network.
      parameters: how many it has.
      seed: of the training run.
      step: training steps behind the evaluated checkpoint.
      train_seconds: wall clock of the training.
      weights: where the initial weights come from.
      averaged: the weights are a moving average of the training's.
      views: test-time augmentation, such as "flip: mean of 2 views"; "" for one view.
      synthetic: the faces are rendered.
      stand_in: rendered faces lie in the place of a gated data set.
      derived_labels: the labels follow from a rule, nobody gave them.
      label_rule: the rule, where labels are derived.
      leaks: ids that more than one split shares.
      near_duplicates: pairs of pictures that look alike, in different splits.
      notes: anything else the reader must know, a sentence each.
      folds: of a cross-validation; 0 for a plain split.
      seeds: trainings behind the figures.
    """

    run: str
    dataset: str
    config: str
    protocol: str
    split: str
    model: str
    parameters: int
    seed: int
    step: int
    train_seconds: float
    weights: str = "random initialisation"
    averaged: bool = False
    views: str = ""
    synthetic: bool = False
    stand_in: bool = False
    derived_labels: bool = False
    label_rule: str = ""
    leaks: int = 0
    near_duplicates: int = 0
    notes: tuple[str, ...] = ()
    folds: int = 0
    seeds: int = 1

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ReportCard:
        """Reads back the "card" of a report.json."""
        return cls(**{**stored, "notes": tuple(stored["notes"])})

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stands across the top of every report; empty when nothing has to be said."""
        lines = []
        if self.stand_in:
            lines.append(
                f"STAND-IN: synthetic faces in the place of {self.dataset}: "
                "figures say nothing about real faces"
            )
        elif self.synthetic:
            lines.append("SYNTHETIC FACES: figures say nothing about real faces")
        if self.derived_labels:
            rule = f"the rule {self.label_rule}" if self.label_rule else "a rule"
            lines.append(f"DERIVED LABELS: labels follow from {rule}, nobody gave them")
        if self.leaks:
            lines.append(
                f"LEAK: {self.leaks} ids are shared by the splits; "
                "figures are too high for unseen people"
            )
        return tuple(lines)
