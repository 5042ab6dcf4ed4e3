"""The user's copy of a set in whatever shape: a folder, its archives, or both mixed.

Label files and pictures often come as separate archives, some unpacked and some not:
a `Copy` shows all of it as one list of names, the tree before its archives. Big
tables can be read as a stream, from tar archives too. Nothing is unpacked or written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from fer_jax import errors
from tfds_builders import sources

MAX_TABLE_BYTES = 2**30  # the largest table in use, FER2013's, has 287 MB
_TAR = re.compile(r".*\.(tar|tgz|tar\.gz)", re.IGNORECASE)
_SHADOWS = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)
_NAMED = 5  # names in a message


@dataclasses.dataclass(frozen=True)
class Copy:
    """A folder and some archives in it as one source; names in archives begin with theirs.

    Attributes:
      path: What the user named: a folder or a file.
      parts: A name's beginning, and the source that has the rest of it.
    """

    path: Path
    parts: tuple[tuple[str, sources.Source], ...]

    @functools.cached_property
    def _places(self) -> dict[str, tuple[sources.Source, str]]:
        return {
            prefix + name: (source, name)
            for prefix, source in self.parts
            for name in source.sizes()
            if not _SHADOWS.search(name)
        }

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: source.sizes()[inner] for name, (source, inner) in self._places.items()}

    def sizes(self) -> dict[str, int]:
        """Names and bytes, without what file managers leave (.DS_Store, Thumbs.db ...)."""
        return self._sizes

    def read(self, name: str) -> bytes:
        """See `sources.Source`."""
        source, inner = self._places[name]
        return source.read(inner)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file of any size as a stream; `UserError` where the archive breaks off."""
        source, inner = self._places[name]
        if self._sizes[name] > MAX_TABLE_BYTES:
            raise errors.UserError(
                f"expected a table of at most {MAX_TABLE_BYTES:,} bytes, found {name} in "
                f"{self.path} with {self._sizes[name]:,}. This is not the set's file."
            )
        try:
            with _open_in(source, inner) as stream:
                yield stream
        except (zipfile.BadZipFile, zlib.error, EOFError, tarfile.TarError, OSError) as error:
            raise errors.UserError(
                f"expected to read {name} in {self.path}, found it damaged ({error}). Get this "
                "file again."
            ) from error


@dataclasses.dataclass(frozen=True)
class TarSource:
    """A tar archive, for tables: reading a member means reading the archive up to it."""

    path: Path

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        try:
            with tarfile.open(self.path) as archive:
                members = [member for member in archive if member.isfile()]
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise errors.UserError(
                f"expected a tar archive, found {self.path}, which cannot be read ({error}). A "
                "download that broke off looks like this: get the file again."
            ) from error
        for member in members:
            if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
                raise errors.UserError(
                    f"expected only relative names in {self.path}, found {member.name!r}, which "
                    "points outside. The set's publisher sent no such file: get it again."
                )
        return {member.name: member.size for member in members}

    def sizes(self) -> dict[str, int]:
        """See `sources.Source`."""
        return self._sizes

    def read(self, name: str) -> bytes:
        """See `sources.Source`."""
        with self.open(name) as stream:
            return stream.read(sources.MAX_MEMBER_BYTES)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A member as a stream."""
        with tarfile.open(self.path) as archive:
            stream = archive.extractfile(name)
            assert stream is not None  # `sizes` lists files only
            yield stream


@dataclasses.dataclass(frozen=True)
class FileSource:
    """One file that is no archive: a table which the user named itself."""

    path: Path

    def sizes(self) -> dict[str, int]:
        """See `sources.Source`."""
        return {self.path.name: self.path.stat().st_size}

    def read(self, name: str) -> bytes:
        """See `sources.Source`."""
        return sources.FolderSource(self.path.parent).read(name)


def find(
    manual_dir: Path,
    archives: str,
    lacks: Callable[[Mapping[str, int]], str],
    how_to_get: str,
) -> Copy:
    """The first of: the tree alone, its archives too, that is a copy of the set.

    Args:
      manual_dir: A folder, an archive, or a table.
      archives: A pattern for the names of the archives that may belong to the set.
      lacks: What these names lack to be a copy ("" if nothing), for the message
        "expected ... in ...".
      how_to_get: How to get the set.

    Raises:
      errors.UserError: None of them is a copy, or an archive cannot be read.
    """
    missing = ""
    for copy in _candidates(manual_dir, re.compile(archives, re.IGNORECASE)):
        missing = lacks(copy.sizes())
        if not missing:
            return copy
    missing = missing or lacks({})
    raise errors.UserError(
        f"expected {missing} in {manual_dir}, found {what_is_there(manual_dir)}.\n{how_to_get}"
    )


def what_is_there(manual_dir: Path) -> str:
    """What lies where the user pointed, for a message."""
    if manual_dir.is_file():
        return f"a file {manual_dir.name} without it"
    if not manual_dir.exists():
        return "no such folder"
    entries = sorted(one.name for one in manual_dir.iterdir())
    more = f" and {len(entries) - _NAMED:,} more" if len(entries) > _NAMED else ""
    return ", ".join(entries[:_NAMED]) + more if entries else "an empty folder"


def first_by_id(
    pairs: Iterable[tuple[str, str]],
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Each id's first file, and the (id, file) of further ones: unpacked beside its archive."""
    first: dict[str, str] = {}
    further = []
    for one, file in pairs:
        if first.setdefault(one, file) != file:
            further.append((one, file))
    return first, further


def _candidates(manual_dir: Path, pattern: re.Pattern[str]) -> Iterator[Copy]:
    if manual_dir.is_file():
        yield Copy(manual_dir, (("", _open_file(manual_dir)),))
    elif manual_dir.is_dir():
        folder = sources.FolderSource(manual_dir)
        yield Copy(manual_dir, (("", folder),))
        found = _archives(manual_dir, folder.sizes(), pattern)
        if found:
            yield Copy(manual_dir, (("", folder), *found))


def _archives(
    root: Path, names: Iterable[str], pattern: re.Pattern[str]
) -> Sequence[tuple[str, sources.Source]]:
    found = [name for name in names if pattern.fullmatch(PurePosixPath(name).name)]
    return [
        (f"{name}/", _open_file(root / name))
        for name in found
        if name.lower().endswith(".zip") or _TAR.fullmatch(name)
    ]


def _open_file(path: Path) -> sources.Source:
    if _TAR.fullmatch(path.name):
        return TarSource(path)
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return sources.ZipSource(path)
    return FileSource(path)


@contextlib.contextmanager
def _open_in(source: sources.Source, name: str) -> Iterator[IO[bytes]]:
    if isinstance(source, TarSource):
        with source.open(name) as stream:
            yield stream
    elif isinstance(source, sources.ZipSource):
        with zipfile.ZipFile(source.path) as archive, archive.open(name) as stream:
            yield stream
    else:
        folder = source.path if source.path.is_dir() else source.path.parent
        with open(folder / name, "rb") as stream:
            yield stream
