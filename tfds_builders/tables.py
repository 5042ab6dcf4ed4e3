"""Label files: rows of a csv, or of a list parted by blanks, read one by one.

The header decides where a column is, so an added column or a blank before a name
changes nothing; a missing one is a `UserError`. What the values mean is the
business of each builder; so is a row that is wrong.
"""

from __future__ import annotations

import contextlib
import csv
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO

from fer_jax import errors
from tfds_builders import sources

MAX_BYTES = 2**30  # the largest table in use, FER2013's, has 287 MB


def rows(
    source: sources.Source, name: str, columns: Sequence[str], *, no_header: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The values of `columns` in every row of a csv, with the row's number in the file.

    Args:
      source: Where the table is.
      name: The table's name there.
      columns: Names as in the set's own file; case and blanks around them do not count.
      no_header: The table may also come without its first line: `columns` are then all
        its columns, and a first line that has none of their names is a row.

    Raises:
      errors.UserError: The header lacks a column, a row is short, or it is no text.
    """
    with _open(source, name) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        table = csv.reader(text)
        try:
            first = next(table, [])
            known = [column.strip().lower() for column in first]
            wanted = [column.lower() for column in columns]
            if no_header and len(first) == len(columns) and not set(wanted) & set(known):
                yield table.line_num, first
                known = wanted
            yield from _pick(table, _positions(known, columns, f"{name} in {source.path}"), name)
        except (csv.Error, UnicodeDecodeError) as error:
            raise errors.UserError(
                f"expected a table in {name} in {source.path}, found no text that can be read "
                f"behind line {table.line_num} ({error}). Get this file again."
            ) from error


def words(source: sources.Source, name: str, count: int) -> Iterator[tuple[int, list[str]]]:
    """The last `count` - 1 words of every line, and before them the rest of it as one.

    For lists parted by blanks whose first column, a file name, may have blanks itself.

    Raises:
      errors.UserError: A line has fewer words, or it is no text.
    """
    with _open(source, name) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                line = raw.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise _wrong_line(source, name, number, raw[:40], count) from error
            if not line:
                continue
            found = line.rsplit(maxsplit=count - 1)
            if len(found) < count:
                raise _wrong_line(source, name, number, line[:80], count)
            yield number, found


def read_text(source: sources.Source, name: str) -> str:
    """A whole text file, without its byte-order mark; invalid UTF-8 is replaced.

    Raises:
      errors.UserError: The file cannot be read.
    """
    try:
        return source.read(name).decode("utf-8-sig", errors="replace")
    except sources.MemberError as error:
        raise errors.UserError(
            f"expected to read {name} in {source.path}, found it damaged ({error}). Get this file "
            "again."
        ) from error


def _positions(known: Sequence[str], columns: Sequence[str], where: str) -> list[int]:
    missing = [column for column in columns if column.lower() not in known]
    if missing:
        found = ", ".join(column or "''" for column in known)[:200] or "an empty file"
        raise errors.UserError(
            f"expected the columns {', '.join(columns)} in the first line of {where}, found "
            f"{found}. Use the file as the set's publisher sent it."
        )
    return [known.index(column.lower()) for column in columns]


def _pick(
    table: Iterator[list[str]], at: Sequence[int], name: str
) -> Iterator[tuple[int, list[str]]]:
    last = max(at)
    for row in table:
        number = table.line_num  # type: ignore[attr-defined]
        if len(row) > last:
            yield number, [row[position].strip() for position in at]
        elif row:
            raise errors.UserError(
                f"expected at least {last + 1} values in line {number} of {name}, found "
                f"{len(row)}. Use the file as the set's publisher sent it."
            )


def _wrong_line(
    source: sources.Source, name: str, number: int, found: object, count: int
) -> errors.UserError:
    return errors.UserError(
        f"expected {count} words in line {number} of {name} in {source.path}, found {found!r}. Use "
        "the file as the set's publisher sent it."
    )


@contextlib.contextmanager
def _open(source: sources.Source, name: str) -> Iterator[IO[bytes]]:
    """A table as a stream; `UserError` where its archive breaks off."""
    size = source.sizes()[name]
    if size > MAX_BYTES:
        raise errors.UserError(
            f"expected a table of at most {MAX_BYTES:,} bytes, found {name} in {source.path} with "
            f"{size:,}. This is not the set's file."
        )
    try:
        with source.stream(name) as stream:
            yield stream
    except _DAMAGES as error:
        raise errors.UserError(
            f"expected to read {name} in {source.path}, found it damaged ({error}). Get this file "
            "again."
        ) from error


_DAMAGES = (
    sources.MemberError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError,
)  # fmt: skip
