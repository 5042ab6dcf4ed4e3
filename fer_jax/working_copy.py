"""Working copies: a folder in a bucket that this process writes, by a copy on its disk.

Everything is written into the copy, and `push` makes the bucket equal to it: first the new
objects, then the manifest, then what the manifest replaces. So a reader finds the last whole
state whenever the writer is killed. Buckets have no locks: the writer owns the folder by an
object that it renews, and another process that finds it renewed refuses to write.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_jax import buckets
from fer_jax.buckets import OWNER, Index, reported
from fer_jax.errors import UserError

BEAT_SECONDS = 10.0
"""How often the owner renews its object."""

PATIENCE_SECONDS = 40.0
"""An owner that has not renewed its object for so long is dead."""

DUE_SECONDS = 60.0
"""How often `push_due` pushes."""

_SMALL = 32 * 2**20  # bytes that are read at once: a log may grow between two reads

_open: list[WorkingCopy] = []
_followed: list[tuple[str, Path]] = []


@contextlib.contextmanager
def working_copy(place: Path | str) -> Iterator[Path]:
    """Yields a folder to work in: a local path itself, or the working copy of a URL.

    The copy begins equal to the bucket, and is pushed at the end, however that is.

    Raises:
      UserError: another process writes the folder in the bucket, or it cannot be read or written.
    """
    if isinstance(place, Path):
        yield place
        return
    if "/" not in place.partition("://")[2]:
        raise UserError(
            f"expected a folder in a bucket, such as {place}/runs/demo, found the bucket {place}; "
            "name a new folder in it"
        )
    with WorkingCopy(place, buckets.copy_of(place, buckets.WORKING)) as copy:
        yield copy.folder
    print(f"copied to {place}", flush=True)


def push_all() -> None:
    """Pushes every working copy of this process; does nothing if there is none."""
    for copy in _open:
        copy.push()


def push_due() -> None:
    """As `push_all`, but for copies that were pushed in the last minute."""
    for copy in _open:
        if time.monotonic() - copy.pushed_at > DUE_SECONDS:
            copy.push()


def follow(place: Path | str) -> Path:
    """Returns the folder that another process of the job works in, or a copy of it.

    `refresh` makes the copy equal to what that process pushed.
    """
    if isinstance(place, Path):
        return place
    folder = buckets.copy_of(place, buckets.WORKING)
    _followed.append((place, folder))
    refresh()
    return folder


def refresh() -> None:
    """Pulls what this process follows."""
    for url, folder in _followed:
        fetch(url, folder)


def fetch(url: str, folder: Path) -> None:
    """Makes a copy equal to a folder, which may be missing, unless this process works on it."""
    if not any(copy.folder == folder for copy in _open):
        with buckets.locked(folder, wait=True):
            buckets.pull_locked(url, folder, may_be_missing=True)


class WorkingCopy:
    """A folder in a bucket that this process owns, and its copy.

    Args:
      url: of the folder.
      folder: the copy.
      waits: wait for another writer to end, instead of an error.
    """

    def __init__(self, url: str, folder: Path, *, waits: bool = False) -> None:
        self.url, self.folder, self.pushed_at = url, folder, time.monotonic()
        self._system, self._root = buckets.open_url(url)
        self._waits = waits
        self._uploading: Sequence[str] = ()
        self._pushing = threading.RLock()
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> WorkingCopy:
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(buckets.locked(self.folder, wait=self._waits)):
                raise UserError(
                    f"another process of this machine writes {self.url}; wait for it, or choose "
                    "another URL"
                )
            self._index = Index(self.folder)
            self._own()
            stack.callback(self._release)
            buckets.pull_locked(self.url, self.folder, may_be_missing=True)
            self._index = Index(self.folder)
            self._manifest = buckets.read_manifest(self.url) or {"files": {}, "pending": []}
            self._settle()
            beat = threading.Thread(target=self._renew, name="owner", daemon=True)
            beat.start()
            stack.callback(beat.join)
            stack.callback(self._ended.set)
            _open.append(self)
            stack.callback(_open.remove, self)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            try:
                self.push()
            except UserError as failed:
                if error[0] is None:
                    raise
                print(f"note: {failed}", file=sys.stderr)

    def push(self) -> None:
        """Makes the folder in the bucket equal to the copy; unchanged files are not copied again.

        A copy that was removed changes nothing.

        Raises:
          UserError: another process took the folder over, or it cannot be written.
        """
        if not self.folder.exists():
            return
        with self._pushing:
            self.pushed_at = time.monotonic()
            present = {}
            for name in buckets.local_files(self.folder):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    present[name] = self._index.digest(name)
            before: Mapping[str, str] = self._manifest["files"]
            new = [name for name in present if name not in before]
            changed = [name for name in present if before.get(name, present[name]) != present[name]]
            gone = [name for name in before if name not in present]
            if not (new or changed or gone):
                return
            with reported(
                f"write {self.url} (everything is in {self.folder} until the command is started "
                "again)"
            ):
                self._claim([*new, *gone])
                present |= self._upload(new) | self._upload(changed, is_pending=True)
                self._manifest = {"format": 1, "files": present, "pending": changed}
                self._put(buckets.MANIFEST, self._manifest)
                self._settle()
                for name in gone:
                    with contextlib.suppress(FileNotFoundError):
                        self._system.rm_file(f"{self._root}/{name}")
                self._claim(())
            self._index.save(present)

    def _upload(self, names: Sequence[str], *, is_pending: bool = False) -> dict[str, str]:
        """Copies files into the bucket; returns the SHA-256 of what was copied.

        What is pending, to replace others, has it as name.
        """
        digests: dict[str, str] = {}
        batch: dict[str, bytes] = {}

        def place(name: str) -> str:
            return f"{self._root}/{f'{buckets.PENDING}/{digests[name]}' if is_pending else name}"

        for name in names:
            path = self.folder / name
            if path.stat().st_size > _SMALL:
                while self._index.token(name) != digests.get(name, ""):  # until it rests
                    digests[name] = self._index.digest(name)
                    self._system.put_file(str(path), place(name))
                continue
            content = path.read_bytes()
            digests[name] = buckets.digest_of(content)
            batch[place(name)] = content
            if len(batch) == buckets.BATCH or sum(map(len, batch.values())) > _SMALL:
                buckets.write(self._system, batch)
                batch = {}
        if batch:
            buckets.write(self._system, batch)
        return digests

    def _settle(self) -> None:
        """Puts the objects that the manifest replaces into their places."""
        place = f"{self._root}/{buckets.PENDING}"
        with reported(f"write {self.url}"):
            for name in self._manifest["pending"]:
                source = f"{place}/{self._manifest['files'][name]}"
                with contextlib.suppress(FileNotFoundError):  # it was put there before
                    self._system.cp_file(source, f"{self._root}/{name}")
            self._system.invalidate_cache()
            for rest in self._system.find(place):
                self._system.rm_file(rest)

    def _own(self) -> None:
        """Takes the folder, if nobody renews the object of its owner.

        Raises:
          UserError: somebody does.
        """
        watched, since = None, time.monotonic()
        while (found := self._owner()) and found["copy"] != self._index.copy:
            if watched is None:
                print(
                    f"note: {self.url} was written by {found['host']}, which did not end its work "
                    f"there: waiting up to {PATIENCE_SECONDS:.0f} s to see whether it goes on",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            elif found != watched and not self._waits:
                raise UserError(
                    f"another process ({found['host']}, process {found['process']}) writes "
                    f"{self.url}; wait for it, or choose another URL"
                )
            if found != watched:
                watched, since = found, time.monotonic()
            elif time.monotonic() - since > PATIENCE_SECONDS:
                break  # killed
            time.sleep(min(1.0, PATIENCE_SECONDS / 10))
        unfinished = set(found["uploading"]) if found else set()
        unfinished -= set((buckets.read_manifest(self.url) or {"files": ()})["files"])
        with reported(f"write {self.url}"):
            self._put(OWNER, self._content())
            for name in unfinished:  # of a push that was killed
                with contextlib.suppress(FileNotFoundError):
                    self._system.rm_file(f"{self._root}/{name}")

    def _claim(self, uploading: Sequence[str] | None = None) -> None:
        """Renews the owner's object, with the names of what is about to be written, if given.

        Raises:
          UserError: it is no longer ours.
        """
        with self._renewing:
            found = self._owner()
            if not found or found["copy"] != self._index.copy:
                raise UserError(
                    f"expected no other process to write {self.url}, found that "
                    f"{found['host'] if found else 'one'} took it over; what this one wrote is in "
                    f"{self.folder}"
                )
            if uploading is not None:
                self._uploading = list(uploading)
            self._put(OWNER, self._content())

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # `push` reports it
                self._claim()

    def _release(self) -> None:
        with contextlib.suppress(Exception):  # the next owner waits a little longer
            if (found := self._owner()) and found["copy"] == self._index.copy:
                self._system.rm_file(f"{self._root}/{OWNER}")

    def _owner(self) -> dict[str, Any] | None:
        with reported(f"read {self.url}/{OWNER}"):
            try:
                return dict(json.loads(self._system.cat_file(f"{self._root}/{OWNER}")))
            except FileNotFoundError:
                return None

    def _content(self) -> dict[str, Any]:
        return {
            "copy": self._index.copy,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "renewed": time.time(),
            "uploading": list(self._uploading),
        }

    def _put(self, name: str, content: Mapping[str, Any]) -> None:
        self._system.pipe_file(f"{self._root}/{name}", json.dumps(content).encode())
