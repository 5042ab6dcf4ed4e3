"""Whole files or none, and what is read of a file that was cut off."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from fer_jax import files
from fer_jax.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = files.write_text(tmp_path / "a.txt", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ('{"step": 1}\n{"step": 2}\n', [1, 2]),
        ('{"step": 1}\n{"ste', [1]),
        ('{"step": 1}\n{"step": 12}', [1]),
        ('{"step": 1}\n\n{"step": 2}\n ', [1, 2]),
        ("", []),
    ],
)
def test_a_line_without_an_end_is_left_out(tmp_path, text, steps):
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    assert [row["step"] for row in files.read_json_lines(path)] == steps


@pytest.mark.parametrize("line", ['{"ste', "7", "\0\0"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(UserError, match="line 2"):
        files.read_json_lines(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        files.read_json_lines(tmp_path / "none.jsonl")


def test_a_folder_that_cannot_be_opened_is_written(tmp_path, monkeypatch):
    """As on Windows, which opens no folders to sync them."""

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    assert files.write_text(tmp_path / "a.txt", "text").read_text() == "text"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    """As in a container with a bare user id."""

    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.Path, "expanduser", homeless)
    with pytest.raises(UserError, match="found none; set HOME, or FER_JAX_CACHE"):
        files.cache_folder()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
@pytest.mark.parametrize("wait", [False, True])
def test_a_file_system_without_locks_is_used_with_a_note(
    tmp_path, monkeypatch, capsys, number, wait
):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert files.lock(0, tmp_path / ".lock", wait=wait)
    assert f"the file system of {tmp_path} has no locks" in capsys.readouterr().err


def test_a_system_without_locks_is_used_with_a_note(tmp_path, monkeypatch, capsys):
    """As Windows, where Python has no fcntl."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert files.lock(0, tmp_path / ".lock", wait=False)
    assert f"the file system of {tmp_path} has no locks" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["gs://bucket/data", "s3://b", "file:///tmp", Path("gs://bucket")])
def test_a_url_is_no_local_path(path):
    with pytest.raises(UserError, match="expected a local path, found the URL"):
        files.local_path(path)


@pytest.mark.parametrize("path", ["a/b", "/a", "C:/a", "hub:owner/name", "a b:c", ""])
def test_other_names_are_local_paths(path):
    assert files.local_path(path) == Path(path)
