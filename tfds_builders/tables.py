"""Reads label files row by row: csv tables, and lists separated by spaces.

Columns are found by the header, so additional columns and spaces around names do not matter.
Builders interpret the values.
"""

from __future__ import annotations

import codecs
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

MAX_BYTES = 2**30  # the largest, FER2013's, has 287 MB

_HEADER_BYTES = 10_000  # of a first line: a csv of pixels may lack line breaks
_PUBLISHED = "Use the file as the set's publisher sent it."
_OWN = "Save the table as csv with these columns."


def rows(
    source: sources.Source, name: str, columns: Sequence[str], *, no_header: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and the values of `columns` of every row of a csv file.

    Args:
      source: the source that contains the table.
      name: file name of the table.
      columns: column names; case and surrounding spaces are ignored.
      no_header: whether the table may lack a header: `columns` are then all its columns, and a
        first line without any of their names is a row.

    Raises:
      errors.UserError: A column is missing, a row is too short, or the file is not text.
    """
    with _open(source, name) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        table = csv.reader(text)
        try:
            first = next(table, [])
            header = [column.strip().lower() for column in first]
            expected = [column.lower() for column in columns]
            if no_header and len(first) == len(columns) and not set(expected) & set(header):
                yield table.line_num, first
                header = expected
            yield from _pick(table, _positions(header, columns, f"{name} in {source.path}"), name)
        except (csv.Error, UnicodeDecodeError) as error:
            raise errors.UserError(
                f"expected a table in {name} in {source.path}, found unreadable text after line "
                f"{table.line_num} ({error}). Get this file again."
            ) from error


def header(source: sources.Source, name: str) -> list[str]:
    """The first line of a csv file as column names in lower case, whatever it contains."""
    with _open(source, name) as stream:
        line = stream.readline(_HEADER_BYTES).decode("utf-8-sig", errors="replace")
    return [column.strip(' "\r\n').lower() for column in line.split(",")]


def own_rows(
    source: sources.Source, name: str, columns: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """As `rows`, for a small table that the user wrote, such as with a spreadsheet program.

    Columns may be separated by commas, semicolons or tabs; text may be UTF-8, UTF-16 or
    Windows-1252.
    """
    try:
        data = source.read(name)
    except sources.MemberError as error:
        raise _damaged(source, name, error) from error
    yield from parse_own(data, f"{name} in {source.path}", columns)


def parse_own(data: bytes, where: str, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """As `own_rows`, from the content of the file; `where` names it in messages."""
    text = _decode(data)
    first = text.partition("\n")[0].lower()
    separator = max(",;\t", key=first.count)
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = [column.strip().lower() for column in next(table, [])]
        yield from _pick(table, _positions(header, columns, where, _OWN), where, _OWN)
    except csv.Error as error:
        raise errors.UserError(
            f"expected a table in {where}, found unreadable text after line {table.line_num} "
            f"({error}). {_OWN}"
        ) from error


def words(source: sources.Source, name: str, count: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and `count` words of every line; only the first may have spaces.

    For lists whose first column is a file name.

    Raises:
      errors.UserError: A line has fewer words, or the file is not text.
    """
    with _open(source, name) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                line = raw.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise _wrong_line(source, name, number, raw[:40], count) from error
            if not line:
                continue
            values = line.rsplit(maxsplit=count - 1)
            if len(values) < count:
                raise _wrong_line(source, name, number, line[:80], count)
            yield number, values


def read_text(source: sources.Source, name: str) -> str:
    """A whole text file, without its byte-order mark; invalid UTF-8 is replaced.

    Raises:
      errors.UserError: The file cannot be read.
    """
    try:
        return source.read(name).decode("utf-8-sig", errors="replace")
    except sources.MemberError as error:
        raise _damaged(source, name, error) from error


def _decode(data: bytes) -> str:
    """Decodes a text file as spreadsheet programs save it."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _positions(
    header: Sequence[str], columns: Sequence[str], where: str, advice: str = _PUBLISHED
) -> list[int]:
    missing = [column for column in columns if column.lower() not in header]
    if missing:
        actual = ", ".join(column or "''" for column in header)[:200] or "an empty file"
        raise errors.UserError(
            f"expected the columns {', '.join(columns)} in the first line of {where}, found "
            f"{actual}. {advice}"
        )
    return [header.index(column.lower()) for column in columns]


def _pick(
    table: Iterator[list[str]], at: Sequence[int], name: str, advice: str = _PUBLISHED
) -> Iterator[tuple[int, list[str]]]:
    last = max(at)
    for row in table:
        number = table.line_num  # type: ignore[attr-defined]
        if len(row) > last:
            yield number, [row[position].strip() for position in at]
        elif row:
            raise errors.UserError(
                f"expected at least {last + 1} values in line {number} of {name}, found "
                f"{len(row)}. {advice}"
            )


def _wrong_line(
    source: sources.Source, name: str, number: int, actual: object, count: int
) -> errors.UserError:
    return errors.UserError(
        f"expected {count} words in line {number} of {name} in {source.path}, found {actual!r}. "
        "Use the file as the set's publisher sent it."
    )


def _damaged(source: sources.Source, name: str, error: Exception) -> errors.UserError:
    return errors.UserError(
        f"expected to read {name} in {source.path}, found it damaged ({error}). Get this file "
        "again."
    )


@contextlib.contextmanager
def _open(source: sources.Source, name: str) -> Iterator[IO[bytes]]:
    """Opens a table; reading raises a `UserError` if its archive is damaged."""
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
        raise _damaged(source, name, error) from error


_DAMAGES = (
    sources.MemberError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError,
)  # fmt: skip
