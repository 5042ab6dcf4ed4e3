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
from fer_jax.faces import decode

MAX_MEMBER_BYTES = 64 * 2**20  # images of known sets are below 20 MB
MAX_NESTED_BYTES = 64 * 2**30  # for an archive inside an archive; AffectNet's are the largest
ARCHIVE = re.compile(r".*\.(zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)", re.IGNORECASE)
"""Names of archives that can be read."""
IMAGE_SUFFIXES = tuple(sorted(decode.SUFFIXES))
"""Suffixes of image files, in lower case."""

_MAX_DEPTH = 100  # levels of folders; below Python's recursion limit
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

    @property
    def touched(self) -> set[str]:
        """Names of the files that were read."""
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
    """A folder and its subfolders. Links to missing files have size 0 and cannot be read."""

    path: Path
    touched: set[str] = dataclasses.field(default_factory=set, compare=False, repr=False)

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return dict(sorted(_walk(self.path)))

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, limit: int | None = None) -> bytes:
        """See `Source`."""
        self.touched.add(name)
        _refuse_oversized(self._sizes[name], limit)
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise MemberError(error.strerror) from error

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        self.touched.add(name)
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
      touched: as in `Source`.
    """

    path: Path
    file: IO[bytes] | None = None
    touched: set[str] = dataclasses.field(default_factory=set, compare=False, repr=False)

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
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        members = {}
        for member in self._archive.infolist():
            name = _portable(self.path, member.filename)
            if name.endswith("/"):
                continue
            if member.flag_bits & 1:
                raise errors.UserError(
                    f"expected a readable archive, found {self.path} encrypted. Unpack it with its "
                    "password and give the folder instead."
                )
            members[name] = member
        return dict(sorted(members.items()))

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: member.file_size for name, member in self._members.items()}

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, limit: int | None = None) -> bytes:
        """See `Source`."""
        self.touched.add(name)
        _refuse_oversized(self._sizes[name], limit)
        try:
            with self._archive.open(self._members[name]) as member:
                return member.read(self._sizes[name])
        except _DAMAGES as error:
            raise MemberError(f"damaged in the archive ({error})") from error

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        self.touched.add(name)
        member = self._members[name]
        if member.file_size > max(_CHUNK, _MAX_RATIO * member.compress_size):
            raise _too_large(self.path / name, _MAX_RATIO * member.compress_size)
        try:
            return self._archive.open(member)
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
                    name = _portable(self.path, member.name)
                    if member.isreg() and not member.issparse():
                        members[name.removeprefix("./")] = (member.offset_data, member.size)
                end = archive.offset
        except (tarfile.TarError, OSError, EOFError) as error:
            raise _broken(self.path, error) from error
        # tarfile takes a truncated or damaged header for the end of the archive.
        if os.pread(self._plain.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
            raise _broken(self.path, tarfile.ReadError("no end-of-archive block"))
        return members

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: size for name, (_, size) in sorted(self._members.items())}

    def sizes(self) -> Mapping[str, int]:
        """See `Source`."""
        return self._sizes

    def read(self, name: str, limit: int | None = None) -> bytes:
        """See `Source`."""
        self.touched.add(name)
        start, size = self._members[name]
        _refuse_oversized(size, limit)
        data = os.pread(self._plain.fileno(), size, start)
        if len(data) < size:
            raise MemberError("truncated in the archive")
        return data

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        self.touched.add(name)
        return io.BufferedReader(_Range(self._plain.fileno(), *self._members[name]))


@dataclasses.dataclass(frozen=True)
class JoinedSource:
    """Several sources as one tree, each below a folder.

    Attributes:
      path: the user's folder or archive.
      parts: pairs of folder (ending with a slash, or "") and source. Of files with the same name,
        the first counts.
      touched: as in `Source`.
    """

    path: Path
    parts: Sequence[tuple[str, Source]]
    touched: set[str] = dataclasses.field(default_factory=set, compare=False, repr=False)

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
        self.touched.add(name)
        source, inner, _ = self._places[name]
        return source.read(inner, limit)

    def stream(self, name: str) -> IO[bytes]:
        """See `Source`."""
        self.touched.add(name)
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
        place = without_suffix(name)
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
        files = [manual_dir / name for name, _ in _walk(manual_dir)]
    else:
        return ""
    lines = []
    for file in files:
        state = file.stat() if file.exists() else file.lstat()
        lines.append(f"{file} {state.st_size} {state.st_mtime_ns}")
    text = "\n".join(sorted(lines)).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


_OTHER_ARCHIVES = {b"Rar!\x1a\x07": "rar", b"7z\xbc\xaf\x27\x1c": "7z", b"\x28\xb5\x2f\xfd": "zst"}
_OTHER_SUFFIX = re.compile(r"\.(rar|7z|zst|lz4|cab|iso)(\.\d+)?$", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:(/|$)")
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
    while chunk := _read_chunk(stream, path):
        copied += len(chunk)
        if copied > limit:
            raise _too_large(path, limit)
        try:
            file.write(chunk)
        except OSError as error:
            free = shutil.disk_usage(tempfile.gettempdir()).free
            raise errors.UserError(
                f"expected to read {path} through a temporary file in {tempfile.gettempdir()} "
                f"({free:,} bytes free), found: {error}. Unpack the archive and give the folder, "
                "or choose a larger temporary folder (TMPDIR)."
            ) from error


def _read_chunk(stream: IO[bytes], path: Path) -> bytes:
    try:
        return stream.read(_CHUNK)
    except _DAMAGES as error:
        raise _broken(path, error) from error


def _too_large(path: Path, limit: int) -> errors.UserError:
    return errors.UserError(
        f"expected at most {limit:,} bytes in {path}, found more: this is not a copy of a data "
        "set. Get the file again."
    )


def _broken(path: Path, error: Exception) -> errors.UserError:
    if other := other_archive(path):
        return errors.UserError(
            f"expected a zip or tar archive, found {path}, which is a {other} archive. Unpack it "
            "and give the folder."
        )
    kind = "zip" if path.name.lower().endswith(".zip") else "zip or tar"
    return errors.UserError(
        f"expected a {kind} archive, found {path}, which cannot be read ({error}). "
        "The download may be incomplete: get the file again."
    )


def other_archive(path: Path) -> str:
    """The format of an archive that cannot be read here, by its content or name; else ""."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError:
        start = b""
    by_content = [name for magic, name in _OTHER_ARCHIVES.items() if start.startswith(magic)]
    return by_content[0] if by_content else other_suffix(path.name)


def other_suffix(name: str) -> str:
    """The format of an archive that cannot be read here, by its name; else ""."""
    match = _OTHER_SUFFIX.search(name)
    return match[1].lower() if match else ""


def _length(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _portable(path: Path, name: str) -> str:
    """The name of a member with forward slashes; some programs of Windows write backslashes.

    Raises:
      errors.UserError: The name points outside of the archive.
    """
    plain = name.replace("\\", "/")
    pure = PurePosixPath(plain)
    if pure.is_absolute() or ".." in pure.parts or _DRIVE.match(plain):
        raise errors.UserError(
            f"expected only relative names in {path}, found {name!r}, which "
            "points outside. The set's publisher did not send this file: get the archive again."
        )
    return plain


def _refuse_oversized(size: int, limit: int | None) -> None:
    if size > (MAX_MEMBER_BYTES if limit is None else limit):
        raise MemberError(f"{size:,} bytes")


def _is_shadow(name: str) -> bool:
    return name.startswith(_SHADOWS[0]) or PurePosixPath(name).name.startswith(_SHADOWS[1])


def _folders(name: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(name).parents]


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; Python keeps other bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_hidden(name: str) -> bool:
    """Whether a file or one of its folders is hidden, or a shadow file of macOS."""
    parts = PurePosixPath(name).parts
    return _is_shadow(name) or any(part.startswith(".") for part in parts)


def is_archive(name: str) -> bool:
    """Whether a file is an archive by its name, of a format that can be read or not."""
    return bool(ARCHIVE.fullmatch(name) or _OTHER_SUFFIX.search(name))


def without_suffix(name: str) -> str:
    """An archive's name without its suffix: the folder that it appears as."""
    return re.sub(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz)|rar|7z)$", "", name, flags=re.IGNORECASE)


def _walk(
    root: Path, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, int]]:
    """Yields names and sizes of the files below `root`; a `UserError` for unreadable folders.

    A link to a folder above itself (`above`: device and inode of each) is not followed.
    """
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
        state = root.stat()
    except OSError as error:
        raise errors.UserError(f"expected a readable folder, found {root}: {error}") from error
    if len(above) > _MAX_DEPTH:
        raise errors.UserError(
            f"expected at most {_MAX_DEPTH} levels of folders, found more in {root}. Give the "
            "folder of the data set itself."
        )
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", above | {here})
        elif entry.is_file():
            yield prefix + entry.name, entry.stat().st_size
        elif entry.is_symlink() and not os.path.exists(entry.path):
            yield prefix + entry.name, 0
