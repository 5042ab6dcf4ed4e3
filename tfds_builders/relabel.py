"""relabel.csv: decisions about labels, applied when a prepared set is opened.

    id,given,suggested,decision
    Training_00012,fear,surprise,surprise      the label becomes surprise
    Training_00345,fear,neutral,drop           the image is left out
    Training_00678,fear,anger,keep             the label stays, as it does without a decision

`fer-jax labels` writes one. The records stay as they are, and the splits: a protocol that balances
classes sees the given labels. The column `suggested` is for people and may be missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_jax import errors
from fer_jax.labels import named
from fer_jax.monitor import console
from fer_jax.printable import csv_text, printable
from tfds_builders import tables
from tfds_builders.index import Entry

FILE = "relabel.csv"
KEEP, DROP = "keep", "drop"
_COLUMNS = ("id", "given", "decision")
_LISTED = 5  # ids in a message


@dataclasses.dataclass(frozen=True)
class Decision:
    """A row of the table.

    Attributes:
      given: the label that the decision is about.
      decision: a class, `KEEP`, `DROP`, or "" if it is open.
    """

    given: str
    decision: str


@dataclasses.dataclass(frozen=True)
class Relabeled:
    """What a table changed in a data set.

    Attributes:
      entries: the entries with their new labels.
      dropped: ids of the images to leave out.
      changed: ids of the images with a new label.
      text: file, digest and ids that are not in the set, for reports.
    """

    entries: list[Entry]
    dropped: frozenset[str]
    changed: frozenset[str]
    text: str

    def remaining(self, rows: np.ndarray) -> np.ndarray:
        """Returns `rows` of the entries without those of dropped images."""
        return rows[[self.entries[row].id not in self.dropped for row in rows]]

    def count(self, ids: Sequence[str]) -> str:
        """Says what was changed among `ids`; "" if nothing."""
        changed, dropped = (len(part.intersection(ids)) for part in (self.changed, self.dropped))
        if not changed and not dropped:
            return ""
        return f"labels changed: {changed:,}, images left out: {dropped:,} ({self.text})"


def read(path: Path) -> dict[str, Decision]:
    """Reads a table: id to decision.

    Raises:
      errors.UserError: the file or a column is missing, or an id has two decisions.
    """
    return _parse(path, _bytes(path))


def _parse(path: Path, data: bytes) -> dict[str, Decision]:
    decisions: dict[str, Decision] = {}
    for line, cells in tables.parse_own(data, str(path), _COLUMNS):
        name, given, decision = map(_unescaped, cells)
        row = Decision(given, decision)
        if decisions.setdefault(name, row) != row:
            raise errors.UserError(
                f"expected one decision for each image in {path}, found another one for "
                f"{printable(name)} in line {line}; delete one of them"
            )
    return decisions


def apply(path: Path, entries: Sequence[Entry], names: Sequence[str]) -> Relabeled:
    """Applies a table to the entries of a set; ids that are not in it are listed on stderr.

    Args:
      path: the table.
      entries: of the set.
      names: classes that a decision may name.

    Raises:
      errors.UserError: as `read`; a decision that is no class, another given label than the
        set's, or no id of the set.
    """
    data = _bytes(path)
    decisions = _parse(path, data)
    rows = {entry.id: row for row, entry in enumerate(entries)}
    known = {name: one for name, one in decisions.items() if name in rows}
    _check(path, decisions, {name: entries[rows[name]].label for name in known})
    relabeled, changed, dropped = list(entries), set(), set()
    for name, one in known.items():
        entry = entries[rows[name]]
        label = _label(path, name, one.decision or KEEP, names)
        if label == DROP:
            dropped.add(entry.id)
        elif label not in (KEEP, entry.label):
            relabeled[rows[name]] = dataclasses.replace(entry, label=label)
            changed.add(entry.id)
    digest = hashlib.sha256(data).hexdigest()[:16]
    text = f"{printable(path.name)}, sha256 {digest}"
    if missing := [name for name in decisions if name not in rows]:
        text += f", {len(missing):,} of whose images are not in the set"
        console.print_stderr(
            f"{path}: {len(missing):,} of {len(decisions):,} images are not in the set: "
            f"{_some(missing)}"
        )
    return Relabeled(relabeled, frozenset(dropped), frozenset(changed), text)


def _check(path: Path, decisions: Mapping[str, Decision], labels: Mapping[str, str]) -> None:
    """Checks that the table is about this set; `labels`: of the ids that it has."""
    if decisions and not labels:
        raise errors.UserError(
            f"expected ids of the data set in {path}, found others, such as "
            f"{_some(list(decisions))}; use the table of this set"
        )
    other = [
        f"{printable(name)} ({printable(decisions[name].given)}, in the set {label})"
        for name, label in labels.items()
        if (named(decisions[name].given) or decisions[name].given) != label
    ]
    if other:
        raise errors.UserError(
            f"expected the set's own labels in the column given of {path}, found {len(other):,} "
            f"others: {', '.join(other[:_LISTED])}; use the table of this set"
        )


def _label(path: Path, name: str, decision: str, names: Sequence[str]) -> str:
    if decision in (KEEP, DROP, *names):
        return decision
    label = named(decision)
    if label not in names:
        raise errors.UserError(
            f"expected {', '.join(names)}, {KEEP}, {DROP} or nothing in the column decision of "
            f"{path}, found {printable(decision)!r} for {printable(name)}"
        )
    return str(label)


def _unescaped(cell: str) -> str:
    """Undoes `csv_text`, which puts an apostrophe before a text that starts like a formula."""
    text = cell.removeprefix("'")
    return text if csv_text(text) == cell else cell


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.UserError(
            f"expected a table of decisions about labels in {path}, found: {error.strerror}; "
            "name the file where it is now (config.data.relabel, or --relabel)"
        ) from error


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(printable(name) for name in names[:_LISTED]) + more
