"""Folders and files in buckets, such as gs://bucket/runs/kdef, and their copies on this disk.

Locks, renames, appends and memory maps need a file system, so everything works on a copy in the
cache folder. `pull` makes a copy equal to the folder in the bucket; `working_copy` writes one
back. A folder that `working_copy` wrote has a manifest, which names the objects that belong to
it; one that somebody else wrote is taken as it is listed. Services are those of fsspec.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fer_jax import files
from fer_jax.errors import UserError

SCHEMES = ("gs", "gcs", "s3", "s3a", "az", "abfs", "hdfs", "oci", "oss", "tos", "memory")
"""Of fsspec: stores that several machines write. `memory` is this process, for tests."""

EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
"""Scheme to the extra with its package."""

OWN = ".fer_jax"
"""Folder of a written folder's manifest, owner, and objects that are about to be replaced."""

MANIFEST = f"{OWN}/files.json"
PENDING = f"{OWN}/pending"
OWNER = f"{OWN}/owner.json"

READING, WORKING, DATA = "read", "work", "data"
"""Kinds of copies: readers do not disturb the copy that a process of this machine works on."""

BATCH = 64
"""Objects that are read or written at a time."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.+)")
_ATTEMPTS = 5  # a writer may replace objects while they are read

_number = 0  # of this process in a job


def use_own_copies(number: int) -> None:
    """Gives this process of a job copies of its own: the others may be on its machine."""
    global _number
    _number = number


def is_url(text: object) -> bool:
    """Whether an argument is a URL, of whatever service."""
    return isinstance(text, str) and _URL.match(text) is not None


def path_or_url(text: str) -> Path | str:
    """Returns the path that a flag names, or the URL of a bucket as it is.

    Raises:
      UserError: a URL of a service that fer_jax does not use, or whose package is missing.
    """
    if not is_url(text):
        return files.local_path(text)
    _class_of(text)
    return text.rstrip("/")


def _class_of(url: str) -> Any:
    """Returns fsspec's class for a URL; connects to nothing."""
    import fsspec

    match = _URL.fullmatch(url)
    scheme = match[1].lower() if match else ""
    parts = match[2].rstrip("/").split("/") if match else []
    if scheme not in SCHEMES or "::" in url or any(part in ("", ".", "..") for part in parts):
        raise UserError(
            f"expected a local path, or the URL of a folder in a bucket ({_some(SCHEMES)}), found "
            f"the URL {url}; mount what is elsewhere and give the folder, or copy the files"
        )
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        hint = f"pip install 'fer-jax[{extra}]'" if extra else str(error)
        raise UserError(
            f"expected the package that reads {scheme}:// with {url}, found none; install it "
            f"with: {hint}"
        ) from None


def _some(schemes: tuple[str, ...]) -> str:
    return ", ".join(f"{scheme}://" for scheme in schemes if scheme != "memory")


def open_url(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL and the path in it.

    Raises:
      UserError: as `path_or_url`, or there are no credentials.
    """
    _class_of(url)
    import fsspec

    # It warns at each request of a bucket whose kind it may not ask for, and prints the traceback
    # of an error that it raises, too.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    with reported(f"open {url}"):
        system, path = fsspec.core.url_to_fs(url.rstrip("/"))
    return system, str(path)


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Turns the error of a service, whatever its class, into a message.

    Raises:
      UserError: says what could not be done, and why.
    """
    try:
        yield
    except (UserError, _ChangedError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"expected to {what}, found: {type(error).__name__}: {reason[:300]}; check the name, "
            "the credentials and the connection"
        ) from error


def copy_of(url: str, kind: str) -> Path:
    """Returns the path of this process's copy of what is at a URL; it may not exist.

    Raises:
      UserError: there is no cache folder.
    """
    match = _URL.fullmatch(url.rstrip("/"))
    assert match is not None, url
    own = f"{kind}-{_number}" if _number else kind
    return files.cache_folder().absolute() / "buckets" / own / match[1].lower() / match[2]


def origin(path: Path) -> str:
    """Returns the URL that a path is a copy of; any other path as it is."""
    place = files.cache_folder().absolute() / "buckets"
    if not path.is_relative_to(place):
        return str(path)
    _, scheme, *parts = path.relative_to(place).parts
    return f"{scheme}://{'/'.join(parts)}"


def exists(url: str) -> bool:
    """Whether there is an object at a URL.

    Raises:
      UserError: the service does not answer.
    """
    system, path = open_url(url)
    with reported(f"read {url}"):
        system.invalidate_cache()
        try:  # not `isfile`, to which a service that does not answer has no file
            return bool(system.info(path)["type"] == "file")
        except FileNotFoundError:
            return False


def read_bytes(url: str, limit: int) -> bytes | None:
    """Reads an object; None if it has more than `limit` bytes.

    Raises:
      UserError: it is missing, or the service does not answer.
    """
    system, path = open_url(url)
    with reported(f"read {url}"):
        content = system.cat_file(path, start=0, end=limit + 1)
    return content if len(content) <= limit else None


def list_urls(url: str) -> list[str]:
    """Returns the URLs of all objects below a folder, sorted; of the object itself, if it is one.

    Raises:
      UserError: there is none, or the service does not answer.
    """
    return [f"{url}/{name}" if name else url for name in sorted(_listed(url))]


def local_path(text: str) -> Path:
    """Returns the path that a flag names; of the URL of a bucket, that of a copy to read.

    Raises:
      UserError: as `path_or_url` and `read_only`.
    """
    place = path_or_url(text)
    return place.expanduser() if isinstance(place, Path) else read_only(place)


@functools.cache
def read_only(url: str) -> Path:
    """Returns a copy of what is at a URL: a folder, or a file. Copied once per process.

    Raises:
      UserError: there is nothing, or it cannot be read.
    """
    folder = copy_of(url, READING)
    pull(url, folder)
    return folder


def write(system: Any, contents: Mapping[str, bytes]) -> None:
    """Writes objects of a file system; contents by path.

    gcsfs ends the body of a request with a bare newline before the delimiter. A service that
    takes lines to end with carriage return and newline cuts a last carriage return off, so such
    contents go the way of large ones, which has no delimiters. Google reports the MD5 of what it
    stored, which is compared.
    """
    if "gs" not in system.protocol:
        system.pipe(contents)
        return
    odd = {
        path: content
        for path, content in contents.items()
        if content.endswith(b"\r") or b"\n--==0==" in content
    }
    if rest := {path: content for path, content in contents.items() if path not in odd}:
        system.pipe(rest, consistency="md5")
    for path, content in odd.items():
        system.pipe_file(path, content, chunksize=len(content), consistency="md5")


@dataclasses.dataclass(frozen=True)
class Object:
    """An object in a bucket.

    Attributes:
      path: in its file system.
      token: identifies the content.
    """

    path: str
    token: str


class Index:
    """What is known of the files of a copy, so that none is read or copied twice.

    Stored beside the copy.

    Args:
      folder: the copy.

    Attributes:
      copy: identifies the copy.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder.with_name(f".{folder.name}.copy.json")
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            self.copy, self._entries = str(stored["copy"]), dict(stored["files"])
        except (OSError, ValueError, KeyError, TypeError):
            self.copy, self._entries = secrets.token_hex(8), {}
            self.save()

    def token(self, name: str) -> str | None:
        """What identified a file's content; None if it changed since, or is unknown."""
        entry = self._entries.get(name)
        return entry[2] if entry and list(entry[:2]) == _state(self._folder / name) else None

    def set(self, name: str, token: str) -> None:
        """Stores what identifies the present content of a file."""
        self._entries[name] = [*(_state(self._folder / name) or (-1, -1)), token]

    def digest(self, name: str) -> str:
        """Returns the SHA-256 of a file, which is read only if it changed."""
        token = self.token(name)
        if token is None or not re.fullmatch("[0-9a-f]{64}", token):
            before = _state(self._folder / name)
            with open(self._folder / name, "rb") as file:
                token = hashlib.file_digest(file, "sha256").hexdigest()
            self._entries[name] = [*(before or ()), token]
        return token

    def save(self, names: Collection[str] = ()) -> None:
        """Writes the index, with nothing but the files of these names."""
        self._entries = {name: self._entries[name] for name in names if name in self._entries}
        content = {"copy": self.copy, "files": self._entries}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f"{self._path.name}.part")
        part.write_text(json.dumps(content, indent=0), encoding="utf-8")
        os.replace(part, self._path)


def digest_of(content: bytes) -> str:
    """Returns the SHA-256 of the content of a file, as `Index.digest` does."""
    return hashlib.sha256(content).hexdigest()


def _state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Locks a copy for this process; yields whether it is ours, and no other process's."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.copy.lock")
    with open(path, "w", encoding="utf-8") as lock:
        yield files.lock(lock.fileno(), path, wait=wait)


def pull(url: str, folder: Path) -> None:
    """Makes a copy equal to the folder, or the file, at a URL; takes what is whole only.

    Raises:
      UserError: there is nothing, or it cannot be read.
    """
    with locked(folder, wait=True):
        pull_locked(url, folder)


def pull_locked(url: str, folder: Path, *, may_be_missing: bool = False) -> None:
    """As `pull`, of a copy that this process has locked."""
    for attempt in range(_ATTEMPTS):
        time.sleep(attempt)
        try:
            manifest = read_manifest(url)
            if manifest is None and not may_be_missing and exists(f"{url}/{OWNER}"):
                raise UserError(
                    f"expected a whole folder at {url}, found one that is being written "
                    "for the first time; try again when it is"
                )
            objects = _listed(url, may_be_missing) if manifest is None else _whole(url, manifest)
            _copy_down(url, folder, objects, is_verified=manifest is not None)
            return
        except _ChangedError as error:
            changed = error
    raise UserError(
        f"expected the objects that {url}/{MANIFEST} lists, found another or no {changed}; "
        "restore it, or remove the folder from the bucket and write it again"
    )


class _ChangedError(Exception):
    """An object is not what the manifest says; the message is its name."""


def read_manifest(url: str) -> dict[str, Any] | None:
    """Returns the manifest of a folder: SHA-256 of each file; None if it has none.

    Raises:
      UserError: it cannot be read.
    """
    system, path = open_url(url)
    with reported(f"read {url}/{MANIFEST}"):
        system.invalidate_cache()
        try:
            return dict(json.loads(system.cat_file(f"{path}/{MANIFEST}")))
        except (FileNotFoundError, NotADirectoryError):
            return None


def _whole(url: str, manifest: Mapping[str, Any]) -> dict[str, Object]:
    """The objects that the manifest of a folder names.

    What replaces others has its SHA-256 as name until it is in their place.
    """
    system, path = open_url(url)
    with reported(f"read {url}"):
        places = {
            name: place
            for name in manifest["pending"]
            if system.exists(place := f"{path}/{PENDING}/{manifest['files'][name]}")
        }
    return {
        name: Object(places.get(name, f"{path}/{name}"), digest)
        for name, digest in manifest["files"].items()
    }


def _listed(url: str, may_be_missing: bool = False) -> dict[str, Object]:
    """All objects below a URL, by their path from there; "" if the URL is that of an object."""
    from fsspec.utils import tokenize

    system, path = open_url(url)
    with reported(f"list {url}"):
        system.invalidate_cache()
        found = system.find(path, detail=True)
    objects = {}
    for place, info in found.items():
        name = place.removeprefix(path).lstrip("/") if place != path else ""
        if place.endswith("/") or name.startswith(f"{OWN}/"):  # an empty object for a folder
            continue
        if any(part in ("", ".", "..") for part in name.split("/")) and name:
            raise UserError(f"expected names of files in {url}, found {name!r}; rename the object")
        objects[name] = Object(place, tokenize(info))
    if not objects and not may_be_missing:
        raise UserError(f"expected a folder or a file at {url}, found nothing; check the URL")
    return objects


def _copy_down(url: str, folder: Path, objects: Mapping[str, Object], *, is_verified: bool) -> None:
    system, _ = open_url(url)
    index = Index(folder)
    for name in local_files(folder, hidden=True):
        if name not in objects:
            (folder / name).unlink()
    wanted = [name for name, one in objects.items() if index.token(name) != one.token]
    if is_verified:  # an interrupted copy, or one without its index
        wanted = [
            name for name in wanted
            if not (folder / name).is_file() or index.digest(name) != objects[name].token
        ]  # fmt: skip
    for first in range(0, len(wanted), BATCH):
        names = wanted[first : first + BATCH]
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with reported(f"read {url}"):
            try:
                targets = [str(folder / name) for name in names]
                system.get([objects[name].path for name in names], targets)
            except FileNotFoundError as error:
                raise _ChangedError(str(error)) from error
        for name in names:
            if is_verified and index.digest(name) != objects[name].token:
                raise _ChangedError(name)
            index.set(name, objects[name].token)
    index.save(objects)
    for place, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(place)


def local_files(folder: Path, *, hidden: bool = False) -> list[str]:
    """Returns the files below a folder, by their path from there; "" for a file itself.

    Without those that begin with a dot, and what Orbax is writing, unless `hidden`.
    """
    if folder.is_file():
        return [""]
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        if not hidden:
            folders[:] = [name for name in folders if not _is_unfinished(name)]
        found += [
            PurePosixPath(os.path.relpath(place, folder), name).as_posix()
            for name in names
            if hidden or not _is_unfinished(name)
        ]
    return sorted(found)


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") or ".orbax-checkpoint-tmp" in name
