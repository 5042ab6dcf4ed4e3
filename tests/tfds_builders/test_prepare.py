"""Preparing a set: names, sources, interruptions, changed settings, other copies, locks."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from fer_jax import errors
from fer_jax.executor import Executor
from tests import commands
from tfds_builders import journal, summary
from tfds_builders import prepare as build

ROOT = pathlib.Path(__file__).parents[2]


def _bytes(builder) -> dict[str, bytes]:
    folder = pathlib.Path(builder.data_dir)
    files = [*folder.glob("*.array_record*"), folder / "records.csv", folder / "duplicates.csv"]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["kdeff"], ["kdef, rafd, raf_db", "did you mean 'kdef'?"]),
        (["kdef", "--config", "fase"], ["variant of kdef (face)", "Did you mean 'face'?"]),
        (["kdef", "--config", "paper"], ["'paper' is a protocol: --protocol paper"]),
        (
            ["kdef", "--protocol", "papr"],
            ["subject, paper, fold1of10", "Did you mean 'paper'?"],
        ),
        (["kdef", "--protocol", "fold11of10"], ["found fold11of10"]),
        (["kdef", "--margin", "3"], ["margin from 0 to 2, found 3"]),
        (["kdef", "--fallback", "none"], ["view or whole for fallback, found 'none'"]),
        (["synthetic_faces", "--size", "64"], ["stored whole", "config.data.face_margin"]),
        (
            ["kdef"],
            [
                "KDEF_and_AKDEF.zip",
                "no such folder",
                "https://www.kdef.se",
                "fer-jax stand-in kdef data/stand_in/kdef",
                "fer-jax prepare kdef --manual_dir data/stand_in/kdef",
            ],
        ),
    ],
)
def test_invalid_input_is_one_message_and_exit_code_2(
    arguments: list[str],
    messages: list[str],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        commands.run("prepare", *arguments, "--data_dir", tmp_path / "data")
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    for message in messages:
        assert message in printed.err
    assert not (tmp_path / "data").exists()


def test_an_unwritable_data_dir_is_refused(kdef_tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(errors.UserError, match="expected to write"):
        build.prepare("kdef", None, str(tmp_path / "data"), str(kdef_tree))


def test_importing_prepare_does_not_import_tfds() -> None:
    program = "import sys, tfds_builders.prepare; print('tensorflow_datasets' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_the_default_data_dir_is_that_of_tfds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert build.data_root() == pathlib.Path.home() / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert build.data_root() == tmp_path
    assert build.data_root("~/sets") == pathlib.Path.home() / "sets"


def test_a_second_preparation_does_nothing(
    kdef_tree: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["kdef", "--manual_dir", str(kdef_tree), "--data_dir", str(tmp_path)]
    commands.run("prepare", *arguments)
    first = capfd.readouterr()
    assert "found    420 images (a complete copy has 4,900), used 416, dropped 4" in first.out
    assert "4 black: AF01SUFR, AF11NEHL, AM25DIFL, BM22DIHL" in first.out
    assert "AF31V is misnamed: read as AF31SAHL" in first.out
    assert first.out.startswith("kdef/face/2.0.0, protocol subject")  # TFDS prints nothing
    assert all("kdef: finding faces" in line for line in first.err.splitlines())
    commands.run("prepare", *arguments)
    second = capfd.readouterr()
    assert second.out == "already prepared, nothing to do:\n" + first.out
    assert second.err == ""


def test_the_summary_counts_the_records(kdef_data: pathlib.Path) -> None:
    counts = summary.count(build.prepare("kdef", None, str(kdef_data)))
    assert sum(one.labels["neutral"] for one in counts.values()) == 59
    assert [len(one.subjects) for one in counts.values()] == [2, 2, 2]
    assert {way for one in counts.values() for way in one.faces} == {"view"}


_PREPARE = """
from tests import commands
commands.run("prepare", *sys.argv[1:])
"""
_PREPARE_AND_DIE = """
import itertools, os, signal, sys
from tensorflow_datasets.core import dataset_info
from tests import commands
from tfds_builders import crops, journal
reads, outcomes = itertools.count(1), itertools.count(1)
read, to_json = crops._read, journal._to_json
last_read, last_outcome, describes = map(int, sys.argv[1:4])
def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
def reads_some(*arguments):
    return read(*arguments) if next(reads) <= last_read else die()
def writes_some(outcome):
    return to_json(outcome) if next(outcomes) <= last_outcome else die()
crops._read, journal._to_json = reads_some, writes_some
if not describes:
    dataset_info.DatasetInfo.write_to_directory = die
commands.run("prepare", *sys.argv[4:])
"""


def _prepare(arguments: list[str], reads: int = 10**6, outcomes: int = 10**6, describes: int = 1):
    """Runs a process that is killed behind so many reads or outcomes, or before the description."""
    limits = map(str, (reads, outcomes, describes))
    program = [sys.executable, "-c", _PREPARE_AND_DIE, *limits, *arguments]
    return subprocess.run(program, cwd=ROOT, capture_output=True, check=False, text=True)


@pytest.mark.parametrize(
    ("limit", "done"), [({"reads": 200}, 100), ({"describes": 0}, 420)], ids=["cropping", "end"]
)
def test_a_killed_preparation_is_continued(
    limit: dict[str, int], done: int, kdef_tree: pathlib.Path, kdef_data: pathlib.Path,
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments = ["kdef", "--manual_dir", str(kdef_tree), "--data_dir", str(tmp_path / "killed")]
    assert _prepare(arguments, **limit).returncode == -signal.SIGKILL
    place = tmp_path / "killed" / "kdef" / "face"
    assert [path.name.startswith("incomplete.") for path in place.glob("[!.]*")] == [True]

    builder = build.prepare("kdef", None, str(tmp_path / "killed"), str(kdef_tree)).builder
    assert sorted(path.name for path in place.iterdir()) == [".lock", "2.0.0"]
    assert _bytes(builder) == _bytes(build.get("kdef", None, str(kdef_data)))
    before = re.search(r"([\d,]+) images were done before", capfd.readouterr().err)
    assert before
    assert int(before[1]) >= done


@pytest.mark.slow
def test_a_preparation_that_is_killed_again_and_again_does_no_image_twice(
    kdef_tree: pathlib.Path, kdef_data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    arguments = ["kdef", "--manual_dir", str(kdef_tree), "--data_dir", str(tmp_path)]
    arguments += ["--workers", "2"]
    for done in (0, 120, 240):
        killed = _prepare(arguments, outcomes=120)
        assert killed.returncode == -signal.SIGKILL
        assert ("done before" in killed.stderr) == bool(done)
        assert f"{done:,} images were done before" in killed.stderr or not done
    assert _prepare(arguments, outcomes=0).returncode == -signal.SIGKILL  # one was left to do
    assert _prepare(arguments).returncode == 0
    builders = [build.get("kdef", None, str(folder)) for folder in (tmp_path, kdef_data)]
    assert _bytes(builders[0]) == _bytes(builders[1])


def test_crops_of_another_source_are_not_used(
    kdef_tree: pathlib.Path, kdef_data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    place = tmp_path / "data" / "kdef" / "face"
    place.mkdir(parents=True)
    with journal.Journal(place / ".2.0.0.unfinished", {"source": "another"}) as of_another:
        first = build.get("kdef", None, str(kdef_data)).open(kdef_tree).records[0]
        of_another._write([first.id, first.file, "black", ""])
    builder = build.prepare("kdef", None, str(tmp_path / "data"), str(kdef_tree)).builder
    assert _bytes(builder) == _bytes(build.get("kdef", None, str(kdef_data)))


def _truncate(folder: pathlib.Path) -> None:
    file = next(folder.glob("*.array_record*"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _remove_a_file(folder: pathlib.Path) -> None:
    next(folder.glob("*.array_record*")).unlink()


def _change_the_index(folder: pathlib.Path) -> None:
    text = (folder / "records.csv").read_text()
    (folder / "records.csv").write_text(text.replace(",anger,", ",fear,", 1))


def _remove_the_description(folder: pathlib.Path) -> None:
    (folder / "dataset_info.json").unlink()


@pytest.mark.parametrize(
    "damage", [_truncate, _remove_a_file, _change_the_index, _remove_the_description]
)
def test_damaged_data_is_prepared_again(
    damage, kdef_tree: pathlib.Path, kdef_data_copy: pathlib.Path
) -> None:
    before = _bytes(build.get("kdef", None, str(kdef_data_copy)))
    damage(kdef_data_copy / "kdef" / "face" / "2.0.0")
    assert (
        _bytes(build.prepare("kdef", None, str(kdef_data_copy), str(kdef_tree)).builder) == before
    )


def test_an_unreadable_description_is_refused(kdef_data_copy: pathlib.Path) -> None:
    (kdef_data_copy / "kdef" / "face" / "2.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(errors.UserError, match="Delete that folder"):
        build.get("kdef", None, str(kdef_data_copy))


def test_changed_settings_are_refused(
    kdef_tree: pathlib.Path, kdef_data_copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(kdef_data_copy)
    before = _bytes(build.get("kdef", None, data))
    variant = build.get("kdef", None, data).builder_configs["face"]
    monkeypatch.setattr(variant, "crop", dataclasses.replace(variant.crop, longest_side=32))
    with pytest.raises(errors.UserError, match=r"crop: .*'longest_side': 256.* now.*--rebuild"):
        build.prepare("kdef", None, data)
    again = build.prepare("kdef", None, data, str(kdef_tree), rebuild=True)
    assert again.metadata["stamp"]["crop"]["longest_side"] == 32
    assert _bytes(again.builder) != before


def test_custom_crop_settings_make_another_variant(
    kdef_tree: pathlib.Path, kdef_data_copy: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(kdef_data_copy)
    crop = {"margin": 0.5, "detector": None, "fallback": "whole"}
    custom = build.prepare("kdef", None, data, str(kdef_tree), crop=crop)
    name = custom.builder.builder_config_name
    assert name.startswith("face-")
    assert custom.metadata["crop"] == {
        "margin": 0.5, "min_share": 0.3, "detector": "haar", "fallback": "whole",
        "method": "detect", "longest_side": 256, "quality": 95,
    }  # fmt: skip
    assert {one.face for one in custom.entries} == {"whole"}
    assert build.get("kdef", None, data).is_prepared()
    # By its name alone, without the settings.
    assert build.prepare("kdef", name, data).metadata["crop"] == custom.metadata["crop"]
    assert build.get("kdef", None, data, crop={"margin": 0.1}).builder_config_name == "face"


def test_all_protocols_read_the_same_records(
    kdef_data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_write_records", None)
    data = str(kdef_data)
    subject = build.prepare("kdef", None, data)
    paper = build.prepare("kdef", None, data, protocol="paper")
    folds = [build.prepare("kdef", None, data, protocol=f"fold{k}of3") for k in (1, 2, 3)]
    assert paper.entries == subject.entries
    assert paper.metadata["leaks"] == 6
    assert [fold.metadata["leaks"] for fold in folds] == [0, 0, 0]
    tested = [row for fold in folds for row in fold.splits["test"]]
    assert sorted(tested) == list(range(len(subject.entries)))
    digests = {one.metadata["digest"] for one in (paper, *folds)}
    assert len(digests) == 4
    other = build.prepare("kdef", None, data, protocol="paper", seed=1)
    assert set(other.splits["test"]) != set(paper.splits["test"])


def test_another_copy_is_refused_and_a_missing_one_is_not_needed(
    kdef_data: pathlib.Path, kdef_copy, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(kdef_data)
    other = kdef_copy()
    shutil.rmtree(other / "BM31")
    with pytest.raises(errors.UserError, match=r"source: .* then, .* now \(35 gone: BM31AFFL, BM"):
        build.prepare("kdef", None, data, str(other))
    assert capsys.readouterr().err == ""
    assert build.prepare("kdef", None, data, str(tmp_path / "gone")).entries
    assert f"no copy of kdef in {tmp_path / 'gone'} any more" in capsys.readouterr().err
    assert build.prepare("kdef", None, data).entries


def test_the_command_line_refuses_a_missing_folder(
    kdef_data: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("kdef", "--data_dir", kdef_data, "--manual_dir", tmp_path / "typo")
    with pytest.raises(SystemExit) as stopped:
        commands.run("prepare", *arguments)
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out) == (2, "")
    assert "found no such folder" in printed.err
    assert "leave --manual_dir out" in printed.err


def test_a_folder_without_a_copy_is_refused_although_data_is_prepared(
    kdef_data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(errors.UserError, match=r"KDEF_and_AKDEF(.|\n)* was prepared from ") as stop:
        build.prepare("kdef", None, str(kdef_data), str(tmp_path))
    assert "leave --manual_dir (config.data.manual_dir) out" in str(stop.value)


def test_a_flipped_bit_in_the_records_is_a_message(kdef_data_copy: pathlib.Path) -> None:
    prepared = build.prepare("kdef", None, str(kdef_data_copy))
    file = next(pathlib.Path(prepared.builder.data_dir).glob("*.array_record*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(bytes(data))
    damaged = build.prepare("kdef", None, str(kdef_data_copy))
    with pytest.raises(errors.UserError, match=r"found damaged data .*--rebuild"):
        list(map(damaged.record, range(len(damaged.entries))))


@pytest.mark.slow
def test_of_two_processes_one_prepares_and_the_other_waits(
    kdef_tree: pathlib.Path, kdef_data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    place, temporary = tmp_path / "data" / "kdef" / "face", tmp_path / "temporary"
    place.mkdir(parents=True)
    temporary.mkdir()
    arguments = ["kdef", "--manual_dir", str(kdef_tree), "--data_dir", str(tmp_path / "data")]
    with open(place / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", f"import sys\n{_PREPARE}", *arguments],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=os.environ | {"TMPDIR": str(temporary)},
            )
            for _ in range(2)
        ]  # fmt: skip
        for process in processes:  # both have seen that nothing is prepared
            assert "waiting for another process" in process.stderr.readline()
        assert not list(place.glob("[!.]*"))
    printed = sorted(process.communicate(timeout=120)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert printed[0] == "already prepared, nothing to do:\n" + printed[1]
    assert printed[1].startswith("kdef/face/2.0.0, protocol subject")
    assert [path.name for path in place.glob("[!.]*")] == ["2.0.0"]
    assert _bytes(build.get("kdef", None, str(tmp_path / "data"))) == _bytes(
        build.get("kdef", None, str(kdef_data))
    )
    assert list(temporary.iterdir()) == []  # TFDS leaves a folder behind for each builder


def _count_builders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which every creation of a builder adds the name of its set."""
    created: list[str] = []
    get = build.get
    monkeypatch.setattr(build, "get", lambda *args: (created.append(args[0]), get(*args))[1])
    return created


def test_a_preparation_creates_one_builder(
    kdef_tree: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = _count_builders(monkeypatch)
    first = build.prepare("kdef", None, str(tmp_path), str(kdef_tree))
    assert (first.is_new, created) == (True, ["kdef"])
    again = build.prepare("kdef", None, str(tmp_path), str(kdef_tree))
    assert (again.is_new, created) == (False, ["kdef", "kdef"])
    assert again.metadata == first.metadata
    assert again.entries == first.entries


def test_prepared_data_may_be_read_only(
    kdef_tree: pathlib.Path, kdef_data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("prepared data needs no writable folder")

    monkeypatch.setattr(build, "_check_writable", refuse)
    monkeypatch.setattr(build, "_lock", contextlib.nullcontext)
    before = sorted(path.stat().st_mtime_ns for path in kdef_data.rglob("*"))
    assert build.prepare("kdef", None, str(kdef_data), str(kdef_tree)).entries
    assert sorted(path.stat().st_mtime_ns for path in kdef_data.rglob("*")) == before


def test_synthetic_faces_needs_no_source(tmp_path: pathlib.Path) -> None:
    first = build.prepare("synthetic_faces", None, str(tmp_path), str(tmp_path / "ignored"))
    again = build.prepare("synthetic_faces", None, str(tmp_path), str(tmp_path / "ignored"))
    assert first.builder.builder_config_name == "demo"
    assert _bytes(again.builder) == _bytes(first.builder)
    assert again.metadata["synthetic"] is True
    assert again.metadata["leaks"] == again.metadata["near_duplicates"] == 0
    assert {split: len(rows) for split, rows in again.splits.items()} == {
        "train": 2240, "validation": 420, "test": 700,
    }  # fmt: skip
    fold = build.prepare("synthetic_faces", None, str(tmp_path), protocol="fold2of4")
    assert len(fold.splits["test"]) == 3360 // 4
    assert fold.metadata["leaks"] == 0


def test_records_are_the_same_bytes_for_any_number_of_workers(
    kdef_tree: pathlib.Path, kdef_data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    wanted = _bytes(build.prepare("kdef", None, str(kdef_data)).builder)
    for workers in (1, 2, 5):
        arguments = ("kdef", None, str(tmp_path / str(workers)), str(kdef_tree))
        made = build.prepare(*arguments, executor=Executor(workers))
        assert _bytes(made.builder) == wanted
