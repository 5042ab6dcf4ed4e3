"""Record files: the order over several files, and a full disk."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from fer_jax import errors
from tfds_builders import prepare as build
from tfds_builders import shards

ROOT = pathlib.Path(__file__).parents[2]


def test_records_are_in_order_over_several_files(
    kdef_tree: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    prepared = build.prepare("kdef", None, str(tmp_path), str(kdef_tree))
    files = sorted(pathlib.Path(prepared.builder.data_dir).glob("*.array_record*"))
    assert len(files) > 2
    assert files[1].name == f"kdef-pictures.array_record-00001-of-{len(files):05}"
    for row, entry in enumerate(prepared.entries):  # raises if another record is stored there
        assert prepared.record(row)["id"].decode() == entry.id
    assert prepared.entries == sorted(prepared.entries, key=lambda entry: entry.id)


def test_a_record_in_the_wrong_row_is_refused(kdef_data: pathlib.Path) -> None:
    prepared = build.prepare("kdef", None, str(kdef_data))
    moved = dataclasses.replace(prepared, entries=prepared.entries[::-1])
    with pytest.raises(errors.UserError, match=r"expected the record BM31SUS.*AF01AFFL.*--rebuild"):
        moved.record(0)


_NEARLY_FULL = """
import resource, sys
from tests import commands
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
commands.run("prepare", *sys.argv[1:])
"""


def test_a_full_disk_is_reported_and_with_space_the_same_command_continues(
    kdef_tree: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["kdef", "--manual_dir", str(kdef_tree), "--data_dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", _NEARLY_FULL, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Free some space" in done.stderr
    assert "Traceback" not in done.stderr
    place = tmp_path / "kdef" / "face"
    (unfinished,) = (path for path in place.iterdir() if path.name != ".lock")
    assert unfinished.name in done.stderr
    build.prepare("kdef", None, str(tmp_path), str(kdef_tree))
    assert "images were done before" in capsys.readouterr().err
    assert not unfinished.exists()
