"""Folders in buckets: only what is whole is read, whenever the writer is killed."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from pathlib import Path

import fsspec
import pytest

from fer_jax import buckets, working_copy
from fer_jax.errors import UserError
from fer_jax.working_copy import WorkingCopy

URL = "memory://bucket/run"


@pytest.fixture
def store(monkeypatch, tmp_path):
    """An empty bucket in this process, and copies in a folder of the test."""
    monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(working_copy, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(working_copy, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(buckets.time, "sleep", lambda seconds: threading.Event().wait(0.02))
    buckets.read_only.cache_clear()
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


class KilledError(BaseException):
    """Ends a process of the test between two requests."""


def content_of(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in buckets.local_files(folder)}


def read() -> dict[str, str]:
    """What another machine finds in the bucket."""
    buckets.use_own_copies(7)
    try:
        buckets.read_only.cache_clear()
        return content_of(buckets.read_only(URL))
    finally:
        buckets.use_own_copies(0)


def write(names: dict[str, str | None]) -> None:
    with working_copy.working_copy(URL) as folder:
        change(folder, names)


def change(folder: Path, names: dict[str, str | None]) -> None:
    for name, text in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink() if text is None else path.write_text(text)


FIRST = {"run.json": "1", "checkpoints/10/a": "ten", "metrics.jsonl": "10\n"}
SECOND = {"checkpoints/10/a": None, "checkpoints/20/b": "twenty", "metrics.jsonl": "10\n20\n"}
BOTH = {"run.json": "1", "checkpoints/20/b": "twenty", "metrics.jsonl": "10\n20\n"}


def test_what_is_written_is_read_and_unchanged_files_are_copied_once(store, monkeypatch):
    write(FIRST | {".lock": "", "checkpoints/20.orbax-checkpoint-tmp/a": "half"})
    assert read() == FIRST
    written = []
    for name in ("pipe", "put_file", "get"):
        do = getattr(store, name)
        monkeypatch.setattr(
            store, name, lambda *a, do=do, name=name: (written.append((name, a[0])), do(*a))
        )
    write({"metrics.jsonl": "10\n20\n"})
    (put,) = written
    assert list(put[1].values()) == [b"10\n20\n"]
    assert read() == FIRST | {"metrics.jsonl": "10\n20\n"}
    # A user sees the same files, and no rest.
    names = {path.removeprefix("/bucket/run/") for path in store.find("/bucket/run")}
    assert names == {*FIRST, buckets.MANIFEST}


class Killer:
    """Ends the process of the test at a request that changes the bucket.

    Args:
      store: the bucket.
      last: the number of requests before.
    """

    def __init__(self, store, last: int) -> None:
        self._last, self._requests = last, itertools.count()
        self._do = {name: getattr(store, name) for name in ("pipe_file", "rm_file", "cp_file")}

    def watch(self, patch: pytest.MonkeyPatch, store) -> None:
        for name in self._do:
            patch.setattr(store, name, functools.partial(self._ask, name))

    def _ask(self, name: str, *arguments):
        if next(self._requests) >= self._last:
            raise KilledError
        return self._do[name](*arguments)


@pytest.mark.parametrize("before", [{}, FIRST], ids=["first", "second"])
def test_a_writer_killed_at_any_request_leaves_a_whole_state(store, monkeypatch, before):
    """Each request of a push is the last one once; then another machine reads and goes on."""
    monkeypatch.setattr(working_copy, "BEAT_SECONDS", 60.0)
    monkeypatch.setattr(working_copy, "PATIENCE_SECONDS", 0.05)  # there is no living writer
    wanted, killed = BOTH if before else FIRST, True
    for last in itertools.count():
        store.store.clear()
        if before:
            write(FIRST | {"metrics.jsonl": ""})
            write(FIRST)
        with pytest.MonkeyPatch.context() as patch:
            Killer(store, last).watch(patch, store)
            try:
                write(SECOND if before else FIRST)
                killed = False
            except KilledError:
                pass
        if store.exists(f"/bucket/run/{buckets.MANIFEST}"):
            assert read() in (before, wanted)
        else:
            with pytest.raises(UserError, match=r"found (nothing|one that is being written)"):
                read()
        # Another copy, as on another machine: it finds the owner dead, and writes.
        buckets.use_own_copies(3)
        with working_copy.working_copy(URL) as folder:
            assert content_of(folder) in (before, wanted)
            if content_of(folder) != wanted:
                change(folder, SECOND if before else FIRST)
        buckets.use_own_copies(0)
        assert read() == wanted
        assert set(store.find("/bucket/run")) == {
            f"/bucket/run/{name}" for name in (*wanted, buckets.MANIFEST)
        }
        if not killed:
            break
    assert last > 5


def test_a_living_writer_is_not_disturbed_and_a_dead_one_is_followed(store, capsys):
    with WorkingCopy(URL, buckets.copy_of(URL, "one")) as first:
        change(first.folder, FIRST)
        with (
            pytest.raises(UserError, match=r"another process \(.*\) writes memory://bucket/run"),
            WorkingCopy(URL, buckets.copy_of(URL, "two")),
        ):
            pass
    assert "waiting up to 0 s" in capsys.readouterr().err
    with WorkingCopy(URL, buckets.copy_of(URL, "two")) as second:
        assert content_of(second.folder) == FIRST
    assert capsys.readouterr().err == ""


def test_a_writer_that_waits_begins_with_what_the_other_wrote(store):
    first = WorkingCopy(URL, buckets.copy_of(URL, "one")).__enter__()
    change(first.folder, FIRST)
    found = []

    def wait() -> None:
        with WorkingCopy(URL, buckets.copy_of(URL, "two"), waits=True) as second:
            found.append(content_of(second.folder))

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.8)  # longer than the patience with an owner that is dead
    assert waiting.is_alive()
    first.__exit__(None, None, None)
    waiting.join()
    assert found == [FIRST]


def test_a_writer_that_was_taken_for_dead_writes_nothing_more(store):
    first = WorkingCopy(URL, buckets.copy_of(URL, "one")).__enter__()
    change(first.folder, FIRST)
    first.push()
    store.rm_file(f"/bucket/run/{buckets.OWNER}")
    with WorkingCopy(URL, buckets.copy_of(URL, "two")) as second:
        change(second.folder, SECOND)
    change(first.folder, {"run.json": "other"})
    with pytest.raises(UserError, match="took it over"):
        first.__exit__(None, None, None)
    assert read() == BOTH


def test_a_second_process_of_the_machine_is_refused_at_once(store):
    folder = buckets.copy_of(URL, "one")
    with (
        WorkingCopy(URL, folder),
        pytest.raises(UserError, match="another process of this machine"),
        WorkingCopy(URL, folder),
    ):
        pass


@pytest.mark.parametrize("damage", ["other", None])
def test_an_object_that_is_not_of_the_manifest_is_named(store, damage):
    write(FIRST)
    path = "/bucket/run/checkpoints/10/a"
    store.rm_file(path) if damage is None else store.pipe_file(path, damage.encode())
    with pytest.raises(UserError, match=r"found another or no .*checkpoints/10/a"):
        read()


def test_a_folder_of_somebody_else_is_read_as_it_is_listed_and_may_be_written(store):
    for name, text in FIRST.items():
        store.pipe_file(f"/bucket/run/{name}", text.encode())
    assert read() == FIRST
    store.rm_file("/bucket/run/run.json")
    assert read() == {name: text for name, text in FIRST.items() if name != "run.json"}
    write({"run.json": "1"})
    assert read() == FIRST
    assert set(json.loads(store.cat_file(f"/bucket/run/{buckets.MANIFEST}"))["files"]) == set(FIRST)


def test_a_copy_that_was_changed_or_half_copied_is_not_trusted(store):
    write(FIRST)
    with working_copy.working_copy(URL) as folder:
        place = folder
    (place / "run.json").write_text("2")
    (place / "rest.txt").write_text("of a killed process")
    with working_copy.working_copy(URL) as folder:
        assert content_of(folder) == FIRST


def test_a_failed_push_says_where_everything_is(store, monkeypatch):
    def refuse(*_):
        raise PermissionError("access denied")

    monkeypatch.setattr(store, "pipe", refuse)
    with pytest.raises(UserError, match=r"expected to write memory://.*in /.*access denied"):
        write(FIRST)


def test_a_service_that_does_not_answer_has_no_missing_object(store, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route")

    assert not buckets.exists(URL)
    monkeypatch.setattr(store, "info", refuse)
    with pytest.raises(UserError, match=r"expected to read memory://.*no route"):
        buckets.exists(URL)


def test_a_copy_that_was_removed_empties_no_bucket(store):
    write(FIRST)
    with working_copy.working_copy(URL) as folder:
        for name in FIRST:
            (folder / name).unlink()
        folder.joinpath("checkpoints", "10").rmdir()
        folder.joinpath("checkpoints").rmdir()
        folder.rmdir()
    assert read() == FIRST


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nowhere://b/x", "expected a local path, or the URL of a folder in a bucket"),
        ("http://b/x", "found the URL http://b/x"),
        ("file:///tmp/x", "found the URL file:///tmp/x"),
        ("s3://b/../x", "found the URL"),
        ("zip://a::s3://b/x", "found the URL"),
    ],
)
def test_other_urls_are_refused(url, says):
    with pytest.raises(UserError, match=says):
        buckets.path_or_url(url)


def test_a_bucket_is_no_folder(store):
    with (
        pytest.raises(UserError, match="expected a folder in a bucket"),
        working_copy.working_copy("memory://bucket"),
    ):
        pass


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "gcs"), ("s3", "s3")])
def test_a_missing_package_is_named(monkeypatch, scheme, extra):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(fsspec, "get_filesystem_class", refuse)
    with pytest.raises(UserError, match=rf"pip install 'fer-jax\[{extra}\]'"):
        buckets.path_or_url(f"{scheme}://bucket/run")


def test_copies_know_their_urls(store):
    assert buckets.origin(buckets.copy_of("gs://b/a/c", "read") / "d") == "gs://b/a/c/d"
    assert buckets.origin(Path("/a/b")) == "/a/b"
