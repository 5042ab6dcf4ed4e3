"""The user's copy of a data set, read in place: a zip or a folder.

Nothing is unpacked and nothing is written, so an archive can overwrite no file; a
member that claims more than a picture can hold is refused before it is inflated.
What the names mean is the business of each builder.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from fer_jax import errors

MAX_MEMBER_BYTES = 64 * 2**20  # the largest pictures in use are below 20 MB
_MAX_DEPTH = 6  # folders below the one that is named: the deepest known copy nests four


class Source(Protocol):
    """A set of files with sizes, named by path with forward slashes."""

    @property
    def path(self) -> Path:
        """The zip or the folder."""
        ...

    def sizes(self) -> dict[str, int]:
        """Every file's name and its size in bytes, sorted by name."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a file; `MemberError` where that cannot be."""
        ...


class MemberError(Exception):
    """One file cannot be read: damaged, forbidden, or larger than any picture."""


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """A folder and what is below it, `_MAX_DEPTH` folders deep."""

    path: Path

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return dict(sorted(_walk(self.path, "", _MAX_DEPTH)))

    def sizes(self) -> dict[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str) -> bytes:
        """See `Source`."""
        _refuse_oversized(self._sizes[name])
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise MemberError(error.strerror) from error


@dataclasses.dataclass(frozen=True)
class ZipSource:
    """A zip archive; reading from several threads is safe (zipfile locks its file)."""

    path: Path

    @functools.cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError) as error:
            raise errors.UserError(
                f"expected a zip archive, found {self.path}, which cannot be read ({error}). "
                "A download that broke off looks like this: get the file again."
            ) from error

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        members = [member for member in self._archive.infolist() if not member.is_dir()]
        for member in members:
            self._refuse_foreign(member)
        return {member.filename: member.file_size for member in sorted(members, key=_by_name)}

    def _refuse_foreign(self, member: zipfile.ZipInfo) -> None:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            raise errors.UserError(
                f"expected only relative names in {self.path}, found {member.filename!r}, which "
                "points outside. The set's publisher sent no such file: get the archive again."
            )
        if member.flag_bits & 1:
            raise errors.UserError(
                f"expected a readable archive, found {self.path} encrypted. Unpack it with its "
                "password and name the folder instead."
            )

    def sizes(self) -> dict[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str) -> bytes:
        """See `Source`."""
        _refuse_oversized(self._sizes[name])
        try:
            with self._archive.open(name) as member:
                return member.read(MAX_MEMBER_BYTES)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise MemberError(f"damaged in the archive ({error})") from error


def _refuse_oversized(size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise MemberError(f"{size:,} bytes")


def _walk(root: Path, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
    """Names and sizes below `root`; unreadable folders raise `UserError`."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise errors.UserError(f"expected a readable folder, found {root}: {error}") from error
    for entry in entries:
        if entry.is_dir():
            if depth:
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)
        elif entry.is_file():
            yield prefix + entry.name, entry.stat().st_size


def _by_name(member: zipfile.ZipInfo) -> str:
    return member.filename


def digest(sizes: Mapping[str, int]) -> str:
    """A short fingerprint of record ids and the sizes of their files."""
    lines = sorted(f"{one} {size}" for one, size in sizes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
