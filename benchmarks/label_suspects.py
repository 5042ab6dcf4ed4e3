"""How many suspected labels of FER2013 are wrong, by the votes of FER+.

    python -m benchmarks.label_suspects RUN fer2013new.csv

RUN is a run on FER2013 or a cross-validation of it, as for `fer-jax labels`; the table is FER+'s,
or its folder. Ten people voted on each image. A label counts as wrong if another choice has more
votes, and as without support if it has none. Images that FER+ excludes are not judged. Chance is
the share of such labels among all judged images.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fer_jax.errors import UserError, exit_cleanly
from fer_jax.experiments.label_errors import LabelErrors
from fer_jax.experiments.suspects import HeldOut, collect
from tfds_builders import sources
from tfds_builders.ferplus import votes as ferplus

TOP = (100, 1000)
_ID = re.compile(r"(Training|PublicTest|PrivateTest)_(\d{5})")


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """The judged images in one part of the set, by the rank of their suspicion.

    Attributes:
      name: of the part.
      is_wrong: bool[N], another choice has more votes than the label.
      is_unsupported: bool[N], the label has no vote.
      rankings: name to int64[N], rows by decreasing suspicion.
      is_suspect: bool[N], what `fer-jax labels` lists.
    """

    name: str
    is_wrong: np.ndarray
    is_unsupported: np.ndarray
    rankings: Mapping[str, np.ndarray]
    is_suspect: np.ndarray


def judge(
    found: HeldOut, errors: LabelErrors, votes: Mapping[str, np.ndarray], usage: str
) -> Judged:
    """Compares the labels with the votes.

    Args:
      found: predictions on FER2013.
      errors: their estimated label errors.
      votes: int[10] for `ferplus.CHOICES` by record id.
      usage: Training, PublicTest or PrivateTest; "" for all.
    """
    predictions = found.predictions
    rows = [
        row for row, name in enumerate(predictions.ids) if name in votes and name.startswith(usage)
    ]
    counts = np.array([votes[predictions.ids[row]] for row in rows])
    columns = np.array([ferplus.CHOICES.index(name) for name in predictions.label_names])
    labels = predictions.labels[rows]
    given = counts[np.arange(len(rows)), columns[labels]]
    own = predictions.probabilities[rows, labels]
    return Judged(
        name=usage or "all",
        is_wrong=counts.max(axis=1) > given,
        is_unsupported=given == 0,
        rankings={
            "margin": np.argsort(errors.margin[rows], kind="stable"),
            "probability of the label": np.argsort(own, kind="stable"),
        },
        is_suspect=errors.is_suspect[rows],
    )


def read_votes(path: Path) -> dict[str, np.ndarray]:
    """Reads FER+'s table: votes by the record ids of `fer2013`, without excluded images."""
    table = path if path.is_file() else path / ferplus.TABLE
    source = sources.FolderSource(table.parent)
    return {
        f"{usage}_{row:05d}": np.array(counts)
        for row, (usage, name, counts) in enumerate(ferplus.read(source, table.name))
        if name
    }


def describe(judged: Judged) -> list[str]:
    """Returns the rows of the table for one part."""
    lines = []
    suspects = judged.is_suspect
    for meaning, is_bad in (("wrong", judged.is_wrong), ("no vote", judged.is_unsupported)):
        for name, order in judged.rankings.items():
            top = [f"{is_bad[order[:count]].mean():.3f}" for count in TOP]
            share = is_bad[suspects].mean() if suspects.any() else 0.0
            listed = f"{share:.3f} of {suspects.sum():,}"
            recall = f"{is_bad[suspects].sum() / max(is_bad.sum(), 1):.3f}"
            cells = (judged.name, f"{len(order):,}", meaning, name, f"{is_bad.mean():.3f}", *top,
                     listed, recall)  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="run or cross-validation on fer2013")
    parser.add_argument("votes", type=Path, help="fer2013new.csv, or its folder")
    options = parser.parse_args()
    found = collect(options.run)
    if not all(map(_ID.fullmatch, found.predictions.ids)):
        raise UserError(f"expected a run on fer2013's csv, found other ids in {options.run}")
    votes, errors = read_votes(options.votes), found.find_errors()
    header = ("images", "judged", "label is", "ranked by", "chance",
              *(f"precision at {n:,}" for n in TOP), "of the suspects", "found")  # fmt: skip
    print(f"{found.name}: {found.origin}\n\n| {' | '.join(header)} |\n{'|---' * len(header)}|")
    for usage in ("Training", "PublicTest", "PrivateTest", ""):
        if any(name.startswith(usage) for name in found.predictions.ids):
            print("\n".join(describe(judge(found, errors, votes, usage))))


if __name__ == "__main__":
    with exit_cleanly():
        main()
