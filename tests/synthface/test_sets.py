"""Sets on disk: bytes independent of the workers, atomic files, resumed after a kill."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from fer_jax import errors, labels
from tfds_builders.synthface import (
    Spec,
    archive,
    generate,
    sets,
)

SPEC = Spec("set", 9, 3, size=32, expressions=(labels.NEUTRAL, labels.ANGER), supersample=1)


def _bytes(folder: pathlib.Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """SPEC rendered by one worker without interruption."""
    return generate(SPEC, tmp_path_factory.mktemp("whole"), workers=1, progress=False)


def test_same_bytes_with_two_workers(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert _bytes(generate(SPEC, tmp_path, workers=2, progress=False)) == _bytes(whole)


def test_resumes_after_sigkill(tmp_path: pathlib.Path) -> None:
    many = Spec("many", 9, 40, size=64)
    program = (
        "from tfds_builders.synthface import Spec, generate\n"
        f"generate(Spec('many', 9, 40, size=64), {str(tmp_path)!r}, workers=1, progress=False)"
    )
    folder = tmp_path / many.folder
    child = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 30
    while not sets.subject_file(folder, 1).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.zip")}
    assert 2 <= len(before) < 40
    few = Spec("many", 9, len(before) + 1, size=64)  # only one more: rendering 40 takes long
    assert generate(few, tmp_path, workers=1, progress=False) == folder
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    records = list(sets.read(few, folder))
    assert len(records) == few.subjects * few.images_per_subject
    assert records[-7:] == sets.subject_records(few, few.subjects - 1)


def test_half_written_files_are_rendered_again(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / SPEC.folder
    folder.mkdir()
    for name, data in _bytes(whole).items():
        (folder / name).write_bytes(data)
    (folder / "00000.zip").write_bytes(b"")
    cut = (folder / "00001.zip").read_bytes()
    (folder / "00001.zip").write_bytes(cut[: len(cut) // 2])
    abandoned = folder / "00002.zip.1.tmp"
    abandoned.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    generate(SPEC, tmp_path, workers=1, progress=False)
    assert _bytes(folder) == _bytes(whole)


def test_folder_depends_on_the_spec(whole: pathlib.Path) -> None:
    assert whole.name == SPEC.folder
    assert Spec("set", 10, 3, size=32).folder != SPEC.folder


def test_damaged_archive_is_a_user_error(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = bytearray((whole / "00000.zip").read_bytes())
    data[len(data) // 3] ^= 255
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(data)
    for path in (damaged, tmp_path / "missing.zip"):
        with pytest.raises(errors.UserError, match=rf"{path.name}.*missing or damaged"):
            list(archive.read(path))


def test_unwritable_folder_is_a_user_error(tmp_path: pathlib.Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(errors.UserError, match="not writable"):
        generate(SPEC, blocked, workers=1, progress=False)
