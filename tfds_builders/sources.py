"""The user's copy of a data set, read in place: folders, zip and tar archives, or several.

Nothing is unpacked into a folder and nothing is written beside the copy, so an archive
can overwrite no file. An archive inside another is read through a temporary file without
a name, which vanishes with the process, however it ends. A member that claims more than
a picture can hold is refused before it is inflated. What the names mean is the business
of each builder.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from fer_jax import errors

MAX_MEMBER_BYTES = 64 * 2**20  # the largest pictures in use are below 20 MB
MAX_NESTED_BYTES = 64 * 2**30  # an archive inside an archive; AffectNet's parts are the largest
ARCHIVE = re.compile(r".*\.(zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)", re.IGNORECASE)
"""Names of archives that can be read."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
"""Suffixes of image files, in lower case."""

_MAX_DEPTH = 6  # folders below the one that is named: the deepest known copy nests four
_MAX_NESTING = 2  # archives in archives in the folder
_MAX_RATIO = 200  # an archive does not shrink by as much; a bomb does
_CHUNK = 2**20
_SHADOWS = ("__MACOSX/", "._")  # what macOS leaves in archives


class Source(Protocol):
    """A set of files with sizes, named by path with forward slashes."""

    @property
    def path(self) -> Path:
        """The archive or the folder, for messages."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """Every file's name and its size in bytes, sorted by name."""
        ...

    def read(self, name: str, most: int | None = None) -> bytes:
        """The bytes of a file; `MemberError` where that cannot be.

        Nor where it is more than `most`; None is `MAX_MEMBER_BYTES`.
        """
        ...

    def stream(self, name: str) -> IO[bytes]:
        """A file to read from its start, of any size; close it."""
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

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, most: int | None = None) -> bytes:
        """See `Source`."""
        _refuse_oversized(self._sizes[name], most)
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise MemberError(error.strerror) from error

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        try:
            return open(self.path / name, "rb")
        except OSError as error:
            raise MemberError(error.strerror) from error


@dataclasses.dataclass(frozen=True)
class ZipSource:
    """A zip archive; reading from several threads is safe (zipfile locks its file).

    Attributes:
      path: Of the file; for an archive in an archive, for messages only.
      file: The open archive, where it is none on the disk.
    """

    path: Path
    file: IO[bytes] | None = None

    def __post_init__(self) -> None:
        _close_with(self, self.file)

    @functools.cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.file or self.path)
        except (zipfile.BadZipFile, OSError) as error:
            raise _broken(self.path, error) from error

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        members = [member for member in self._archive.infolist() if not member.is_dir()]
        for member in members:
            _refuse_foreign(self.path, member.filename)
            if member.flag_bits & 1:
                raise errors.UserError(
                    f"expected a readable archive, found {self.path} encrypted. Unpack it with its "
                    "password and name the folder instead."
                )
        return dict(sorted((member.filename, member.file_size) for member in members))

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, most: int | None = None) -> bytes:
        """See `Source`."""
        _refuse_oversized(self._sizes[name], most)
        try:
            with self._archive.open(name) as member:
                return member.read(self._sizes[name])
        except _DAMAGES as error:
            raise MemberError(f"damaged in the archive ({error})") from error

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        try:
            return self._archive.open(name)
        except _DAMAGES as error:
            raise MemberError(f"damaged in the archive ({error})") from error


@dataclasses.dataclass(frozen=True)
class TarSource:
    """A tar archive, compressed or not; only its regular files exist, links do not.

    A compressed one is inflated once into a temporary file without a name, because nothing
    can be read from its middle. Reading from several threads is safe.

    Attributes:
      path: Of the file; for an archive in an archive, for messages only.
      file: The open archive, where it is none on the disk.
    """

    path: Path
    file: IO[bytes] | None = None

    def __post_init__(self) -> None:
        _close_with(self, self.file)

    @functools.cached_property
    def _plain(self) -> IO[bytes]:
        """The archive without its compression."""
        try:
            opened = self.file or open(self.path, "rb")  # noqa: SIM115 - as long as this lives
        except OSError as error:
            raise _broken(self.path, error) from error
        start = opened.read(6)
        opened.seek(0)
        module = [name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)]
        if not module:
            _close_with(self, opened)
            return opened
        limit = min(MAX_NESTED_BYTES, _MAX_RATIO * _length(opened))
        with opened, _decompressed(opened, module[0]) as inflated:
            plain = _to_temporary(inflated, limit, self.path)
        _close_with(self, plain)
        return plain

    @functools.cached_property
    def _members(self) -> dict[str, tuple[int, int]]:
        """Where each file begins and its size."""
        found = {}
        try:
            with tarfile.open(fileobj=_Shared(self._plain), mode="r:") as archive:
                for member in archive:
                    _refuse_foreign(self.path, member.name)
                    if member.isreg() and not member.issparse():
                        found[member.name.removeprefix("./")] = (member.offset_data, member.size)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise _broken(self.path, error) from error
        return found

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: size for name, (_, size) in sorted(self._members.items())}

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, most: int | None = None) -> bytes:
        """See `Source`."""
        start, size = self._members[name]
        _refuse_oversized(size, most)
        data = os.pread(self._plain.fileno(), size, start)
        if len(data) < size:
            raise MemberError("cut off in the archive")
        return data

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        return io.BufferedReader(_Part(self._plain.fileno(), *self._members[name]))


@dataclasses.dataclass(frozen=True)
class JoinedSource:
    """Several sources as one tree, each below a folder of its own.

    Attributes:
      path: What the user named.
      parts: Folder (with a slash at its end, or "") and source; where two have a file of the
        same name, the first one's counts.
    """

    path: Path
    parts: Sequence[tuple[str, Source]]

    @functools.cached_property
    def _places(self) -> dict[str, tuple[Source, str, int]]:
        places: dict[str, tuple[Source, str, int]] = {}
        for folder, source in self.parts:
            for name, size in source.sizes().items():
                places.setdefault(folder + name, (source, name, size))
        return dict(sorted(places.items()))

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: size for name, (_, _, size) in self._places.items()}

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, most: int | None = None) -> bytes:
        """See `Source`."""
        source, inner, _ = self._places[name]
        return source.read(inner, most)

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        source, inner, _ = self._places[name]
        return source.stream(inner)

    def place(self, name: str) -> tuple[Source, str]:
        """The part that a file is in, and its name there."""
        source, inner, _ = self._places[name]
        return source, inner


def open_archive(path: Path) -> Source:
    """The zip or tar at `path`, whichever it is by its name."""
    return ZipSource(path) if path.name.lower().endswith(".zip") else TarSource(path)


def gather(manual_dir: Path, archives: re.Pattern[str] = ARCHIVE) -> Source:
    """A folder or an archive with the archives inside it, as one tree.

    The archive `Image/aligned.zip` appears as the folder `Image/aligned/`; if that folder is
    there too, unpacked, the archive is left alone. Archives inside archives are found too.

    Args:
      manual_dir: A folder, or an archive of any name.
      archives: What names of archives, without folders, belong to the set; others are
        files like any.

    Raises:
      errors.UserError: Nothing is there, or an archive that cannot be read.
    """
    if not manual_dir.exists():
        raise errors.UserError(
            f"expected a folder or an archive, found no such folder as {manual_dir}. "
            "Name the place of your copy with --manual_dir (config.data.manual_dir)."
        )
    base = FolderSource(manual_dir) if manual_dir.is_dir() else open_archive(manual_dir)
    return _with_nested(base, manual_dir, archives, _MAX_NESTING)


def _with_nested(base: Source, root: Path, archives: re.Pattern[str], depth: int) -> Source:
    """`base` and the archives in it, as one."""
    names = list(base.sizes())
    folders = {folder for name in names for folder in _folders(name)}
    parts: list[tuple[str, Source]] = [("", base)]
    for name in names:
        place = _without_ending(name)
        wanted = archives.fullmatch(PurePosixPath(name).name) and ARCHIVE.fullmatch(name)
        if not depth or not wanted or _is_shadow(name) or place in folders:
            continue
        inner = _open_member(base, name)
        parts.append((f"{place}/", _with_nested(inner, inner.path, archives, depth - 1)))
    return base if len(parts) == 1 else JoinedSource(root, parts)


def _open_member(base: Source, name: str) -> Source:
    """An archive that is a file of another source."""
    if isinstance(base, FolderSource):
        return open_archive(base.path / name)
    path = base.path / name
    with base.stream(name) as stream:
        file = _to_temporary(stream, min(MAX_NESTED_BYTES, base.sizes()[name]), path)
    return ZipSource(path, file) if name.lower().endswith(".zip") else TarSource(path, file)


def files_with_suffix(source: Source, suffixes: Sequence[str]) -> list[str]:
    """Names of the files with one of these suffixes (lower case), without shadow files."""
    ends = tuple(suffixes)
    return [name for name in source.sizes() if name.lower().endswith(ends) and not _is_shadow(name)]


def find(source: Source, pattern: str) -> list[str]:
    r"""Names of which a whole tail of path parts matches, in any case, shadow files left out.

    Args:
      source: Where to look.
      pattern: A regular expression for the end of the path, such as
        r"EmoLabel/list_patition_label\.txt".
    """
    compiled = re.compile(rf"(?:.*/)?(?:{pattern})", re.IGNORECASE)
    return [name for name in source.sizes() if compiled.fullmatch(name) and not _is_shadow(name)]


@contextlib.contextmanager
def local(source: Source, name: str) -> Iterator[Path]:
    """A file of a source as a path, for libraries that take nothing else (OpenCV's videos).

    What lies in a folder is used where it is; of an archive a temporary copy is made, outside
    the user's folder, and removed afterwards.
    """
    if isinstance(source, JoinedSource):
        inner_source, inner = source.place(name)
        with local(inner_source, inner) as path:
            yield path
    elif isinstance(source, FolderSource):
        yield source.path / name
    else:
        with tempfile.TemporaryDirectory(prefix="fer_jax_") as folder:
            path = Path(folder) / PurePosixPath(name).name
            with source.stream(name) as stream, open(path, "wb") as file:
                _copy(stream, file, source.sizes()[name], source.path / name)
            yield path


def digest(sizes: Mapping[str, int]) -> str:
    """A short fingerprint of names and numbers."""
    lines = sorted(f"{one} {size}" for one, size in sizes.items())
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def fingerprint(manual_dir: Path) -> str:
    """A digest of the names, sizes and times of what lies on the disk; opens no archive.

    The same digest means the same copy; another one says nothing.
    """
    if manual_dir.is_file():
        files = [manual_dir]
    elif manual_dir.is_dir():
        files = [manual_dir / name for name, _ in _walk(manual_dir, "", _MAX_DEPTH)]
    else:
        return ""
    lines = []
    for file in files:
        state = file.stat()
        lines.append(f"{file} {state.st_size} {state.st_mtime_ns}")
    text = "\n".join(sorted(lines)).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


_COMPRESSIONS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ": "xz"}
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError,
)  # fmt: skip


def _close_with(owner: object, file: IO[bytes] | None) -> None:
    """Closes a file when its owner goes: sources are not closed, they are let go."""
    if file is not None:
        weakref.finalize(owner, file.close)


class _Shared(io.RawIOBase):
    """A view of an open file with a position of its own, which closing leaves open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor, self._at = file.fileno(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (os.fstat(self._descriptor).st_size if base is None else base)
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = os.fstat(self._descriptor).st_size - self._at
        data = os.pread(self._descriptor, left if size < 0 else min(size, left), self._at)
        self._at += len(data)
        return data


class _Part(io.RawIOBase):
    """Some bytes of an open file, as a file."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._at, self._end = descriptor, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = os.pread(self._descriptor, min(len(buffer), self._end - self._at), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@contextlib.contextmanager
def _decompressed(file: IO[bytes], module: str) -> Iterator[IO[bytes]]:
    openers: dict[str, Callable[[IO[bytes]], Any]] = {
        "gz": gzip.open, "bz2": bz2.open, "xz": lzma.open,
    }  # fmt: skip
    with openers[module](file) as inflated:
        yield inflated


def _to_temporary(stream: IO[bytes], limit: int, path: Path) -> IO[bytes]:
    """Copies a stream into a file without a name, outside the user's folder."""
    file = tempfile.TemporaryFile(prefix="fer_jax_")  # noqa: SIM115 - the caller's to close
    try:
        _copy(stream, file, limit, path)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _copy(stream: IO[bytes], file: IO[bytes], limit: int, path: Path) -> None:
    """Copies at most `limit` bytes while the disk has room."""
    copied = 0
    try:
        while chunk := stream.read(_CHUNK):
            copied += len(chunk)
            if copied > limit:
                raise errors.UserError(
                    f"expected at most {limit:,} bytes in {path}, found more: this is no copy of a "
                    "data set. Get the file again."
                )
            file.write(chunk)
    except OSError as error:
        if isinstance(error, zipfile.BadZipFile):
            raise _broken(path, error) from error
        free = shutil.disk_usage(tempfile.gettempdir()).free
        raise errors.UserError(
            f"expected to read {path} through a temporary file in {tempfile.gettempdir()} "
            f"({free:,} bytes free), found: {error}. Unpack the archive and name the folder, or "
            "choose a larger temporary folder (TMPDIR)."
        ) from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> errors.UserError:
    kind = "zip" if path.name.lower().endswith(".zip") else "zip or tar"
    return errors.UserError(
        f"expected a {kind} archive, found {path}, which cannot be read ({error}). "
        "A download that broke off looks like this: get the file again."
    )


def _length(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _refuse_foreign(path: Path, name: str) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or ":" in name or "\\" in name:
        raise errors.UserError(
            f"expected only relative names in {path}, found {name!r}, which "
            "points outside. The set's publisher sent no such file: get the archive again."
        )


def _refuse_oversized(size: int, most: int | None) -> None:
    if size > (MAX_MEMBER_BYTES if most is None else most):
        raise MemberError(f"{size:,} bytes")


def _is_shadow(name: str) -> bool:
    return name.startswith(_SHADOWS[0]) or PurePosixPath(name).name.startswith(_SHADOWS[1])


def _folders(name: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(name).parents]


def _without_ending(name: str) -> str:
    return re.sub(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz))$", "", name, flags=re.IGNORECASE)


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
