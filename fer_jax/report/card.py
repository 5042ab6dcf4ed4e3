"""Metadata of an evaluation and the warnings that follow from it; contains no scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

_MANY_DEAD = 0.5  # from this share on, dead units explain why a network has not learned
_MANY_VIEWS = 0.05  # share from which on they matter for the scores


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What the evaluated images share with what the network learned from.

    That is train and validation of the run, and of the runs that it started from.

    Attributes:
      images: number of evaluated images.
      ids: images that the network learned from.
      subjects: people (videos, movies) of the images that it learned from.
      anonymous: images whose person may be among those, because people are unknown.
      copies: images with a near-duplicate among those that it learned from.
      relabeled: images with such a near-duplicate of another label.
      unknown: runs whose records are unknown, so that nothing is counted for them.
      digests: records that it learned from and whose pixels are not stored, so that only exact
        copies of them are found.
    """

    images: int
    ids: int = 0
    subjects: int = 0
    anonymous: int = 0
    copies: int = 0
    relabeled: int = 0
    unknown: tuple[str, ...] = ()
    digests: int = 0

    def __add__(self, other: Overlap) -> Overlap:
        """Pools disjoint test splits."""
        counts = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in dataclasses.fields(self)
        }
        return Overlap(**counts | {"unknown": tuple(sorted({*self.unknown, *other.unknown}))})

    @property
    def text(self) -> str:
        """One line for tables."""
        counts = (
            f"{self.ids:,} of {self.images:,} images, {self.subjects:,} of their people, "
            f"near-duplicates of {self.copies:,} ({self.relabeled:,} with another label)"
        )
        if self.digests:
            counts += f"; of {self.digests:,} learned records only exact copies are found"
        return f"{counts}; unknown for {', '.join(self.unknown)}" if self.unknown else counts

    @property
    def warnings(self) -> tuple[str, ...]:
        """The part of `ReportCard.warnings` that follows from these counts."""
        lines = []
        if self.ids or self.subjects:
            lines.append(
                f"LEAK: the network learned from {self.ids:,} of the {self.images:,} images and "
                f"from {self.subjects:,} of their people; results are too high for unseen subjects"
            )
        if self.unknown:
            lines.append(
                f"UNCHECKED: what {', '.join(self.unknown)} learned from is not recorded; these "
                "images or people may be among it"
            )
        if self.anonymous:
            lines.append(
                f"PEOPLE UNKNOWN: the people of {self.anonymous:,} of {self.images:,} images may "
                "be among those that the network learned from; results may be too high for unseen "
                "subjects"
            )
        if self.copies:
            lines.append(
                f"NEAR-DUPLICATES: {self.copies:,} of {self.images:,} images have a near-duplicate "
                f"in train or validation ({self.relabeled:,} with another label)"
            )
        return tuple(lines)


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
      temperature: divides the logits; 1 if the run is not calibrated.
      training: optimizer, learning rate and batch size; "" in reports of older versions.
      versions: of the packages that trained the network, as `run_dir.versions`.
      synthetic: whether the faces are rendered.
      stand_in: whether rendered faces replace a data set that cannot be redistributed.
      derived_labels: whether the labels are computed by a rule, rather than annotated.
      label_rule: name of that rule.
      leaks: number of ids in more than one split.
      near_duplicates: number of pairs of near-duplicate images in different splits.
      notes: further notes for the reader, one sentence each.
      folds: number of cross-validation folds; 0 for a single split.
      seeds: number of pooled seeds.
      overlap: what the images share with those that the network learned from; None in reports of
        versions that did not count it.
      dead_units: share of the hidden dense units that are zero for every image; measured only if
        the scores are those of a network that has not learned.
      view_share: share of the images that are cropped at the camera's usual box, because no face
        was detected.
      foreign: whether the model was not trained by this project.
      members: number of networks whose probabilities are averaged.
      abstain: the lowest top probability at which the network answers; 0 if it always does.
      relabeled: how many labels of the split a relabel.csv changed; "" for the set's own labels.
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
    temperature: float = 1.0
    training: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    synthetic: bool = False
    stand_in: bool = False
    derived_labels: bool = False
    label_rule: str = ""
    leaks: int = 0
    near_duplicates: int = 0
    notes: tuple[str, ...] = ()
    folds: int = 0
    seeds: int = 1
    overlap: Overlap | None = None
    dead_units: float | None = None
    view_share: float = 0.0
    foreign: bool = False
    members: int = 1
    abstain: float = 0.0
    relabeled: str = ""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ReportCard:
        """Reads back the "card" of a report.json."""
        counts = stored.get("overlap")
        overlap = Overlap(**{**counts, "unknown": tuple(counts["unknown"])}) if counts else None
        return cls(**{**stored, "notes": tuple(stored["notes"]), "overlap": overlap})

    @property
    def has_checkpoint(self) -> bool:
        """Whether one checkpoint of this project was evaluated."""
        return not self.foreign and self.members == 1

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings shown at the top of every report."""
        lines = []
        if self.foreign:
            lines.append("FOREIGN MODEL: not trained here; evaluated as its description says")
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
        if self.relabeled:
            lines.append(
                f"RELABELED: {self.relabeled}; results do not compare with those on the set's own "
                "labels"
            )
        if self.leaks and (self.overlap is None or self.overlap.unknown):
            lines.append(
                f"LEAK: {self.leaks} ids are in more than one split; "
                "results are too high for unseen subjects"
            )
        if self.dead_units is not None and self.dead_units >= _MANY_DEAD:
            lines.append(
                f"DEAD UNITS: {self.dead_units:.0%} of the hidden units are zero for every image; "
                "train with a lower optim.learning_rate or a longer optim.warmup"
            )
        if self.view_share >= _MANY_VIEWS:
            lines.append(
                f"CAMERA BOX: no face was detected in {self.view_share:.0%} of the images, which "
                "are cropped where this camera usually has it; photos of users are not"
            )
        return (*lines, *(self.overlap.warnings if self.overlap else ()))
