"""The faces of a prediction as a short table for the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from fer_jax.inference.results import Face, Prediction
from fer_jax.inference.sources import Frame
from fer_jax.printable import printable

MAX_ROWS = 40

_NAME_WIDTH = 48  # characters; a line has at most 80
_HEADER = ("file", "face", "expression", "probability")


@dataclasses.dataclass
class Listing:
    """Rows of file, face, label and probability; holds the first `MAX_ROWS` only.

    Attributes:
      rows: the texts of the first rows.
      left_out: number of rows after them.
    """

    rows: list[tuple[str, str, str, str]] = dataclasses.field(default_factory=list)
    left_out: int = 0

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Adds a row for each face of a frame; a photo without one gets a row, too."""
        name = printable(frame.source.name)
        if frame.seconds is not None:
            name = f"{name} {frame.seconds:.1f} s"
        found = [_row(name, number, face) for number, face in enumerate(prediction.faces, 1)]
        if not found and frame.seconds is None:
            found = [(name, "none", "", "")]
        free = MAX_ROWS - len(self.rows)
        self.rows += found[:free]
        self.left_out += len(found[free:])

    def lines(self) -> Iterator[str]:
        """Yields the table, at most 80 characters wide; nothing without rows."""
        if not self.rows:
            return
        names = [_shortened(row[0]) for row in self.rows]
        width = max(map(len, (*names, _HEADER[0])))
        for name, (_, face, label, probability) in zip(
            (_HEADER[0], *names), (_HEADER, *self.rows), strict=True
        ):
            text = f"{name:<{width}}  {face:<5}  {printable(label)[:12]:<12}{probability:>11}"
            yield text.rstrip()
        if self.left_out:
            yield f"... and {self.left_out:,} more faces; --out FOLDER writes all"


def _row(name: str, number: int, face: Face) -> tuple[str, str, str, str]:
    which = face.found if face.found in ("whole", "given") else str(number)
    return name, which, face.answer, f"{face.confidence:.3f}"


def _shortened(name: str) -> str:
    """Returns the end of a long name, which tells files apart."""
    return name if len(name) <= _NAME_WIDTH else f"...{name[3 - _NAME_WIDTH :]}"
