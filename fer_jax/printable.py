"""Makes names of files and classes safe to print on a terminal and to open in a spreadsheet.

Such names come from strangers: a control sequence in one could rewrite the terminal, and a
spreadsheet runs a cell that starts like a formula.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence

_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, surrogate, line and paragraph separator
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str, keep: str = "") -> str:
    r"""Escapes control characters, changes of direction, and bytes that are no UTF-8.

    Args:
      text: such as a path; "caf\xe9\x1b[2J" becomes r"café\x1b[2J".
      keep: characters that stay as they are, such as newlines.
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if character not in keep
        and (unicodedata.category(character) in _UNSAFE or character in _DIRECTIONS)
        else character
        for character in text
    )


def csv_text(text: str) -> str:
    """Returns a text cell of a CSV file: printable, and no formula in a spreadsheet.

    A text that starts like a formula gets an apostrophe in front, as OWASP recommends.
    """
    shown = printable(text)
    return f"'{shown}" if text.startswith(_FORMULA_STARTS) else shown


def csv_table(rows: Iterable[Sequence[object]]) -> str:
    """Formats rows as CSV: texts as in `csv_text`, None as an empty cell, numbers as they are."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [csv_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return text.getvalue()
