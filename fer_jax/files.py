"""Local paths, atomic writes, locks, JSON-lines reading, and the cache folder."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from fer_jax.errors import UserError

CACHE_VARIABLE = "FER_JAX_CACHE"
"""Environment variable: the cache folder instead of ~/.cache/fer_jax."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # Path makes gs:/ of gs://; C:/ is a drive


def local_path(text: str | os.PathLike[str]) -> Path:
    """Returns the path that a flag, a config field or an environment variable names.

    Raises:
      UserError: a URL, such as gs://bucket/data, which would become a local folder "gs:".
    """
    if _SCHEME.match(os.fspath(text)):
        raise UserError(
            f"expected a local path, found the URL {os.fspath(text)}; buckets are for run "
            "directories, prepared data, your copy of a set, and what fer-jax predict reads and "
            "writes: mount this one (gcsfuse, mountpoint-s3) and give the folder, or copy the files"
        )
    return Path(text)


def cache_folder() -> Path:
    """Returns the folder for files that can be made or downloaded again; it may not exist.

    Raises:
      UserError: this user has no home, as in a container, and the variable is not set; or it is a
        URL.
    """
    try:
        return local_path(os.environ.get(CACHE_VARIABLE) or "~/.cache/fer_jax").expanduser()
    except RuntimeError:
        raise UserError(
            f"expected a home for the cache, found none; set HOME, or {CACHE_VARIABLE} to a folder"
        ) from None


def write_bytes(path: Path, content: bytes) -> Path:
    """Writes `content` to a temporary file, syncs it and renames it to `path`.

    A kill or a full disk leaves no partial file. Missing folders are created. Returns `path`.

    Raises:
      UserError: the folder cannot be created or written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"expected to write {path}, found: {error.strerror or error}; "
            "free some space or choose a folder that you may write"
        ) from error
    return path


def lock(handle: int, path: Path, *, wait: bool) -> bool:
    """Locks an open file for this process; the kernel unlocks it when the process ends.

    A file system without locks (NFS without lockd, Lustre without -o flock), and Windows, are
    used as they are, with a note on stderr.

    Args:
      handle: its descriptor.
      path: its path, for the note.
      wait: until another process unlocks it.

    Returns:
      Whether it may be used; False only if another process has locked it.
    """
    try:
        import fcntl  # not on Windows, where prediction has to be importable
    except ImportError:
        _warn_without_locks(path, "Python has no fcntl here")
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        _warn_without_locks(path, str(error.strerror))
    return True


def _warn_without_locks(path: Path, reason: str) -> None:
    print(
        f"note: the file system of {path.parent} has no locks ({reason}): make sure "
        "that no other process writes there",
        file=sys.stderr,
    )


def sync_folder(folder: Path) -> None:
    """Syncs the names in `folder`, such as that of a renamed file, to disk."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> Path:
    """`write_bytes` for UTF-8 text; surrogate escapes of file names are preserved."""
    return write_bytes(path, text.encode("utf-8", "surrogateescape"))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the objects of a file of JSON lines, such as metrics.jsonl.

    A last line without newline was truncated by a kill and is skipped.

    Raises:
      UserError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(
            f"expected JSON lines in {path}, found: {error.strerror or error}; "
            "give the path of a file that can be read"
        ) from error
    *lines, _ = text.split("\n")
    return [
        _parse(line, f"line {number} of {path}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise UserError(f"expected a JSON object in {where}, found {line[:60]!r}; remove the line")
    return row
