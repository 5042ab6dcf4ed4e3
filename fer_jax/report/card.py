"""Metadata of an evaluation and the warnings that follow from it; contains no scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ReportCard:
    """Data, network and training of one evaluation.

    Attributes:
      run: name of the run.
      dataset: name of the data set.
      config: builder config of the data set; "" if none.
      protocol: how the data was split.
      split: evaluated split.
      model: name of the network.
      parameters: number of parameters.
      seed: training seed.
      step: training step of the evaluated checkpoint.
      train_seconds: wall-clock time of training.
      weights: origin of the initial weights.
      averaged: whether the weights are an exponential moving average.
      views: test-time augmentation, such as "flip: mean of 2 views"; "" for none.
      synthetic: whether the faces are rendered.
      stand_in: whether rendered faces replace a data set that cannot be redistributed.
      derived_labels: whether the labels are computed by a rule, rather than annotated.
      label_rule: name of that rule.
      leaks: number of ids in more than one split.
      near_duplicates: number of pairs of near-duplicate images in different splits.
      notes: further notes for the reader, one sentence each.
      folds: number of cross-validation folds; 0 for a single split.
      seeds: number of pooled seeds.
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
    weights: str = "random initialization"
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
        """Warnings shown at the top of every report."""
        lines = []
        if self.stand_in:
            lines.append(
                f"STAND-IN: rendered faces instead of {self.dataset}; "
                "results do not apply to real faces"
            )
        elif self.synthetic:
            lines.append("SYNTHETIC FACES: results do not apply to real faces")
        if self.derived_labels:
            rule = f"the rule {self.label_rule}" if self.label_rule else "a rule"
            lines.append(f"DERIVED LABELS: labels are computed by {rule}, not annotated")
        if self.leaks:
            lines.append(
                f"LEAK: {self.leaks} ids are in more than one split; "
                "results are too high for unseen subjects"
            )
        return tuple(lines)
