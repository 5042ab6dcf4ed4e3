"""Reads the user's copy of a data set in place: folders, zip and tar archives, or several.

Nothing is unpacked into a folder or written beside the copy, so no archive can overwrite a file.
Archives inside archives are read through an unnamed temporary file, which disappears with the
process. A member that claims to be larger than any image is refused before decompression.
Builders interpret the file names.
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

MAX_MEMBER_BYTES = 64 * 2**20  # images of known sets are below 20 MB
MAX_NESTED_BYTES = 64 * 2**30  # for an archive inside an archive; AffectNet's are the largest
ARCHIVE = re.compile(r".*\.(zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)", re.IGNORECASE)
"""Names of archives that can be read."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
"""Suffixes of image files, in lower case."""

_MAX_DEPTH = 6  # levels of folders: the deepest known copy has four
_MAX_NESTING = 2  # levels of archives in archives
_MAX_RATIO = 200  # only a decompression bomb has a higher one
_CHUNK = 2**20
_SHADOWS = ("__MACOSX/", "._")  # added by macOS


class Source(Protocol):
    """A set of files, named by paths with forward slashes."""

    @property
    def path(self) -> Path:
        """The archive or folder, for messages."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """File name to size in bytes, sorted by name."""
        ...

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Reads a file.

        Raises:
          MemberError: The file cannot be read, or is larger than `limit` bytes; None for
            `MAX_MEMBER_BYTES`.
        """
        ...

    def stream(self, name: str) -> IO[bytes]:
        """Opens a file of any size for sequential reading; the caller closes it."""
        ...


class MemberError(Exception):
    """A file cannot be read: it is damaged, not permitted, or too large."""


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """A folder and its subfolders, to a depth of `_MAX_DEPTH`."""

    path: Path

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return dict(sorted(_walk(self.path, "", _MAX_DEPTH)))

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, limit: int | None = None) -> bytes:
        """See `Source`."""
        _refuse_oversized(self._sizes[name], limit)
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
class _ArchiveSource:
    """An archive file.

    Attributes:
      path: path of the archive; of an archive inside an archive, for messages only.
      file: the open archive, if it is inside another.
    """

    path: Path
    file: IO[bytes] | None = None

    def __post_init__(self) -> None:
        _close_with(self, self.file)


class ZipSource(_ArchiveSource):
    """A zip archive. Thread-safe, as zipfile locks its file."""

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
                    "password and give the folder instead."
                )
        return dict(sorted((member.filename, member.file_size) for member in members))

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, limit: int | None = None) -> bytes:
        """See `Source`."""
        _refuse_oversized(self._sizes[name], limit)
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


class TarSource(_ArchiveSource):
    """A tar archive, compressed or not. Only regular files count, no links. Thread-safe.

    A compressed archive is first decompressed into an unnamed temporary file, to allow random
    access.
    """

    @functools.cached_property
    def _plain(self) -> IO[bytes]:
        """The decompressed archive."""
        try:
            opened = self.file or open(self.path, "rb")  # noqa: SIM115 - closed with this object
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
        """File name to offset and size."""
        members = {}
        try:
            with tarfile.open(fileobj=_Shared(self._plain), mode="r:") as archive:
                for member in archive:
                    _refuse_foreign(self.path, member.name)
                    if member.isreg() and not member.issparse():
                        members[member.name.removeprefix("./")] = (member.offset_data, member.size)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise _broken(self.path, error) from error
        return members

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: size for name, (_, size) in sorted(self._members.items())}

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, limit: int | None = None) -> bytes:
        """See `Source`."""
        start, size = self._members[name]
        _refuse_oversized(size, limit)
        data = os.pread(self._plain.fileno(), size, start)
        if len(data) < size:
            raise MemberError("truncated in the archive")
        return data

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        return io.BufferedReader(_Range(self._plain.fileno(), *self._members[name]))


@dataclasses.dataclass(frozen=True)
class JoinedSource:
    """Several sources as one tree, each below a folder.

    Attributes:
      path: the user's folder or archive.
      parts: pairs of folder (ending with a slash, or "") and source. Of files with the same name,
        the first counts.
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

    def read(self, name: str, limit: int | None = None) -> bytes:
        """See `Source`."""
        source, inner, _ = self._places[name]
        return source.read(inner, limit)

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        source, inner, _ = self._places[name]
        return source.stream(inner)

    def place(self, name: str) -> tuple[Source, str]:
        """Returns the source that contains a file, and its name there."""
        source, inner, _ = self._places[name]
        return source, inner


def open_archive(path: Path) -> Source:
    """Opens a zip or tar archive, depending on its suffix."""
    return ZipSource(path) if path.name.lower().endswith(".zip") else TarSource(path)


def gather(manual_dir: Path, archives: re.Pattern[str] = ARCHIVE) -> Source:
    """Opens a folder or archive, and the archives inside it, as one tree.

    The archive `Image/aligned.zip` appears as the folder `Image/aligned/`, unless that folder
    exists. Archives inside archives are opened too.

    Args:
      manual_dir: a folder, or an archive of any name.
      archives: pattern for the names of the archives to open, without their folders.

    Raises:
      errors.UserError: `manual_dir` does not exist, or an archive cannot be read.
    """
    if not manual_dir.exists():
        raise errors.UserError(
            f"expected a folder or an archive, found no such folder as {manual_dir}. "
            "Give the folder of your copy as --manual_dir (config.data.manual_dir)."
        )
    base = FolderSource(manual_dir) if manual_dir.is_dir() else open_archive(manual_dir)
    return _with_nested(base, manual_dir, archives, _MAX_NESTING)


def _with_nested(base: Source, root: Path, archives: re.Pattern[str], depth: int) -> Source:
    """Joins `base` and the archives in it."""
    names = list(base.sizes())
    folders = {folder for name in names for folder in _folders(name)}
    parts: list[tuple[str, Source]] = [("", base)]
    for name in names:
        place = _without_suffix(name)
        matches = archives.fullmatch(PurePosixPath(name).name) and ARCHIVE.fullmatch(name)
        if not depth or not matches or _is_shadow(name) or place in folders:
            continue
        inner = _open_member(base, name)
        parts.append((f"{place}/", _with_nested(inner, inner.path, archives, depth - 1)))
    return base if len(parts) == 1 else JoinedSource(root, parts)


def _open_member(base: Source, name: str) -> Source:
    """Opens an archive that is a file of another source."""
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
    r"""Names whose last path components match a pattern; ignores case and shadow files.

    Args:
      source: the source to search.
      pattern: regular expression for the end of the path, such as
        r"EmoLabel/list_patition_label\.txt".
    """
    compiled = re.compile(rf"(?:.*/)?(?:{pattern})", re.IGNORECASE)
    return [name for name in source.sizes() if compiled.fullmatch(name) and not _is_shadow(name)]


@contextlib.contextmanager
def local(source: Source, name: str) -> Iterator[Path]:
    """Provides a file of a source as a path, for libraries that need one (OpenCV for video).

    A file in an archive is copied to a temporary folder, which is removed afterwards.
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
    """Hash of names and sizes, 16 hex digits."""
    lines = sorted(f"{name} {size}" for name, size in sizes.items())
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def fingerprint(manual_dir: Path) -> str:
    """Hash of the names, sizes and times of the files of a copy; opens no archive.

    Equal fingerprints mean the same copy; different ones mean nothing.
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
    """Closes a file when its owner is garbage-collected, because sources have no `close`."""
    if file is not None:
        weakref.finalize(owner, file.close)


class _Shared(io.RawIOBase):
    """A view of an open file with a separate position; closing it leaves the file open."""

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


class _Range(io.RawIOBase):
    """A range of bytes of an open file, as a file."""

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
    """Copies a stream to an unnamed temporary file."""
    file = tempfile.TemporaryFile(prefix="fer_jax_")  # noqa: SIM115 - the caller closes it
    try:
        _copy(stream, file, limit, path)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _copy(stream: IO[bytes], file: IO[bytes], limit: int, path: Path) -> None:
    """Copies a stream; a `UserError` for more than `limit` bytes or a full disk."""
    copied = 0
    try:
        while chunk := stream.read(_CHUNK):
            copied += len(chunk)
            if copied > limit:
                raise errors.UserError(
                    f"expected at most {limit:,} bytes in {path}, found more: this is not a copy "
                    "of a data set. Get the file again."
                )
            file.write(chunk)
    except OSError as error:
        if isinstance(error, zipfile.BadZipFile):
            raise _broken(path, error) from error
        free = shutil.disk_usage(tempfile.gettempdir()).free
        raise errors.UserError(
            f"expected to read {path} through a temporary file in {tempfile.gettempdir()} "
            f"({free:,} bytes free), found: {error}. Unpack the archive and give the folder, or "
            "choose a larger temporary folder (TMPDIR)."
        ) from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> errors.UserError:
    kind = "zip" if path.name.lower().endswith(".zip") else "zip or tar"
    return errors.UserError(
        f"expected a {kind} archive, found {path}, which cannot be read ({error}). "
        "The download may be incomplete: get the file again."
    )


def _length(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _refuse_foreign(path: Path, name: str) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or ":" in name or "\\" in name:
        raise errors.UserError(
            f"expected only relative names in {path}, found {name!r}, which "
            "points outside. The set's publisher did not send this file: get the archive again."
        )


def _refuse_oversized(size: int, limit: int | None) -> None:
    if size > (MAX_MEMBER_BYTES if limit is None else limit):
        raise MemberError(f"{size:,} bytes")


def _is_shadow(name: str) -> bool:
    return name.startswith(_SHADOWS[0]) or PurePosixPath(name).name.startswith(_SHADOWS[1])


def _folders(name: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(name).parents]


def _without_suffix(name: str) -> str:
    return re.sub(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz))$", "", name, flags=re.IGNORECASE)


def _walk(root: Path, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
    """Yields names and sizes of the files below `root`; a `UserError` for unreadable folders."""
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
