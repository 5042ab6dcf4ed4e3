"""Sweeps: the grid, the plan, runs that fail or belong to another process, and a whole one."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from fer_jax import config as configuration
from fer_jax.cli import sweep as command
from fer_jax.errors import UserError
from fer_jax.experiments import sweep
from tests.cli.conftest import ROOT, TINY


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def load(point: dict[str, str]):
    return configuration.load_settings("configs/demo.py", [f"{k}={v}" for k, v in point.items()])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], {}),
        (["model.name=a,b", "config.seed_of=1"], {"model.name": ["a", "b"], "seed_of": ["1"]}),
        (["model.widths=8,16;16,32"], {"model.widths": ["8,16", "16,32"]}),
    ],
)
def test_the_grid(texts, expected):
    assert command.grid_of(texts) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["model.name"], "expected --grid as FIELD=VALUE,VALUE"),
        (["=a"], "expected --grid as"),
        (["a=1", "a=2"], "each field once"),
        (["a=1,1"], "different values"),
        (["seed=0,1"], "expected --seeds for the seeds"),
    ],
)
def test_a_grid_of_no_use_is_one_message(texts, message):
    with pytest.raises(UserError, match=message):
        command.grid_of(texts)


def test_the_plan_has_all_settings_with_each_seed(tmp_path):
    grid = {"train.balance": ["none", "sqrt"], "model.dropout": ["0.1", "0.5"]}
    cells = sweep.plan(load, tmp_path, grid, (3, 4))
    assert len({cell.folder for cell in cells}) == len(cells) == 8
    last = cells[-1]
    assert last.name == "train.balance=sqrt model.dropout=0.5 seed 4"
    assert last.folder == tmp_path / "balance=sqrt,dropout=0.5" / "seed_4"
    assert (last.settings.seed, last.settings.model.dropout) == (4, 0.5)
    assert [cell.seed for cell in cells] == [3] * 4 + [4] * 4
    with pytest.raises(UserError, match=r"no config field train\.balanse"):
        sweep.plan(load, tmp_path, {"train.balanse": ["none"]}, (0,))


@pytest.mark.parametrize(
    "point",
    [
        {"model.pretrained": "runs/a/../b c"},
        {"train.name": "1", "model.name": "1"},  # equal last parts
        {"data.dir": "x" * 300},
    ],
)
def test_folders_are_short_and_differ(point):
    name = sweep._folder_name(point)
    assert len(name) < 100
    assert "/" not in name
    assert " " not in name
    assert sweep._folder_name({key: value + "!" for key, value in point.items()}) != name


@pytest.fixture
def cells(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep.train, "check", lambda settings: None)
    return sweep.plan(load, tmp_path, {"train.balance": ["none", "sqrt"]}, (0, 1))


def finish(settings, folder):
    path = folder / "report" / "predictions.csv"
    path.parent.mkdir(parents=True)
    path.write_text("")
    return types.SimpleNamespace(accuracy=0.5)


def test_a_run_that_fails_does_not_stop_the_others(cells, tmp_path, monkeypatch, capsys):
    def train(settings, folder):
        if folder == cells[1].folder:
            raise UserError("the loss is NaN")
        return finish(settings, folder)

    monkeypatch.setattr(sweep, "train_and_test", train)
    monkeypatch.setattr(sweep.run_dir, "has_settings", lambda folder, settings: True)
    with pytest.raises(UserError, match=r"found 1 that failed: train\.balance=sqrt seed 0"):
        sweep.sweep(cells, tmp_path)
    assert [cell.is_finished for cell in cells] == [True, False, True, True]
    printed = capsys.readouterr().out
    assert "run 1 of 4: train.balance=none seed 0" in printed
    assert "run 4 of 4, " in printed  # with the time left
    trained = []

    def train_again(settings, folder):
        trained.append(folder)
        return finish(settings, folder)

    monkeypatch.setattr(sweep, "train_and_test", train_again)
    sweep.sweep(cells, tmp_path)
    assert trained == [cells[1].folder]


@pytest.mark.slow
def test_a_run_of_another_process_is_left_to_it(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "train_and_test", finish)
    program = (
        "import sys, time, pathlib; from fer_jax.experiments.sweep import _claimed\n"
        "with _claimed(pathlib.Path(sys.argv[1])): print('ready', flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", program, str(cells[0].folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        sweep.sweep(cells, tmp_path)
        other.kill()
    assert "train.balance=none seed 0: another process works on it" in capsys.readouterr().out
    assert [cell.is_finished for cell in cells] == [False, True, True, True]


def test_another_sweep_needs_another_folder(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "train_and_test", finish)
    sweep.sweep(cells, tmp_path)
    other = sweep.plan(load, tmp_path, {"model.dropout": ["0.1"]}, (0,))
    with pytest.raises(UserError, match=r"a sweep of train.balance in .*found --grid"):
        sweep.sweep(other, tmp_path)


@pytest.mark.slow
def test_a_whole_sweep_in_two_jobs_killed_and_resumed(data_dir, tmp_path):
    arguments = [
        sys.executable, "-m", "fer_jax", "sweep", *TINY, f"--config.data.dir={data_dir}",
        "--grid", "train.balance=none,class_weights", "--seeds", "2", "--jobs", "2",
        "--workdir", "sw",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            arguments, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    first = start()
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("sw/*/*/checkpoints/*")):
        assert time.monotonic() < deadline, first.communicate(timeout=10)
        assert first.poll() is None, first.communicate(timeout=10)
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = start()
    printed, _ = second.communicate(timeout=600)
    assert second.returncode == 0, printed
    assert len(list(tmp_path.glob("sw/balance=*/seed_*/report/predictions.csv"))) == 4
    rows = read_csv(tmp_path / "sw" / "summary" / "summary.csv")
    assert sorted((row["settings"], row["seeds"]) for row in rows) == [
        ("train.balance=class_weights", "2"), ("train.balance=none", "2"),
    ]  # fmt: skip
    pairs = read_csv(tmp_path / "sw" / "summary" / "pairs.csv")
    assert len(pairs) == 1
    assert 0 < float(pairs[0]["p_holm"]) <= 1
