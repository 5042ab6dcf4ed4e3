"""Tests of the speed benchmark: runs, failures, tables and plot.

No speed is asserted. tests/parity checks that the peers train the same networks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.speed import plot, table
from benchmarks.speed.tasks import CONTENDERS, Task, contenders_of

ROOT = Path(__file__).parents[2]
TINY = ("--models", "light_vgg", "--size", "8", "--batch", "2")


def run(out: Path, *flags: str) -> str:
    """Runs the command, in an environment without the peers, and returns its output."""
    fixed = ["--out", out, "--seconds", "0.01", "--peers", sys.executable]
    command = [sys.executable, "-m", "benchmarks.speed", *fixed]
    done = subprocess.run(
        [*map(str, command), *flags], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells(document: str, contender: str) -> dict[str, str]:
    """Returns the cells of a contender's row by column."""
    lines = [line for line in document.splitlines() if line.startswith(f"| {contender} |")]
    assert len(lines) == 1, document
    return dict(zip(table.HEADER, lines[0].strip("| ").split(" | "), strict=False))


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    more = ("--kinds", "train", "--rounds", "2", "--ceilings", "ceiling_numpy")
    output = run(out, *TINY, *more, "--contenders", "fer_jax,keras_torch")
    assert "fer_jax  " in output
    tasks = json.loads(out.read_text())["tasks"]
    assert list(tasks) == ["train light_vgg, 8 px, batch 2"]
    document = table.document(tasks)
    ours = cells(document, "fer_jax")
    assert "" not in ours.values()
    for column in ("images/s (range)", "of ceiling", "CPU ms/image", "cold start, s"):
        assert ours[column] != table.NOTHING, column
    assert ours["of best peer"] == ours["warm start, s"] == table.NOTHING
    peer = cells(document, "keras_torch")
    assert peer["images/s (range)"] == table.NOTHING
    assert "failed: ended with code 1: ModuleNotFoundError" in peer["note"]


def test_exceeding_the_time_limit_is_recorded_as_failed(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    output = run(out, *TINY, "--kinds", "train", "--contenders", "fer_jax", "--limit", "0.01")
    assert "failed: took longer than 0.01 s" in output
    (task,) = json.loads(out.read_text())["tasks"].values()
    assert "rounds" not in task["contenders"]["fer_jax"]
    assert "| failed: took longer than 0.01 s |" in table.document({"it": task})


@pytest.mark.slow
def test_other_tasks_are_kept_and_a_warm_start_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    for kind, starts in (("train", "1"), ("infer", "2")):
        more = ("--rounds", "1", "--ceilings=", "--starts", starts)
        run(out, *TINY, "--kinds", kind, "--contenders", "fer_jax", *more)
    tasks = json.loads(out.read_text())["tasks"]
    counts = {
        kind: len(task["contenders"]["fer_jax"]["seconds_to_first_step"])
        for kind, task in tasks.items()
    }
    assert counts == {"train light_vgg, 8 px, batch 2": 1, "infer light_vgg, 8 px, batch 2": 2}


def result(precision: str, rounds: list[float], **more: object) -> dict[str, object]:
    return {
        "precision": precision,
        "rounds": rounds,
        "seconds_to_first_step": [2.0, 1.0],
        "cpu_ms_per_image": [4.0],
        "facts": {"flops_per_image": 10**9},
        "peak_bytes": 2**30,
        "device_peak_bytes": 2**21,
        **more,
    }


def make_task() -> dict[str, object]:
    """Returns a task's results on a machine with 100 GFLOP/s in float32 and 200 in bfloat16."""
    return {
        "task": {"kind": "train"},
        "command": "c",
        "date": "2026-01-01T00:00",
        "machine": {"processor": "p", "cores": 2, "load": 0.0, "python": "3"},
        "contenders": {
            "fer_jax": result("float32", [10.0, 20.0, 30.0]),
            "fer_jax_bf16": result("bfloat16", [50.0, 50.0, 150.0]),
            "torch_eager": result("float32", [20.0, 20.0, 20.0]),
            "torch_compile": result("float32", [19.0], ended_early="0.4 of the best peer"),
            "torch_bf16": result("bfloat16", [40.0, 100.0, 100.0]),
            "keras_jax": result("float32", [90.0], failed="took longer than 5 s"),
        },
        "ceilings": {
            "ceiling_numpy": {"rounds": [{"float32": 90.0, "copy": 3.0}] * 3},
            "ceiling_torch": {"rounds": [{"float32": 100.0, "bfloat16": 200.0}] * 3},
        },
    }


def test_ratios_are_within_rounds_and_shares_of_the_best_ceiling() -> None:
    task = make_task()
    assert table.best(task, ours=False, precision="float32") == "torch_eager"
    assert table.best(task, ours=False) == "torch_bf16"
    assert table.best(task, ours=True) == "fer_jax_bf16"
    assert table.ratio(task, "fer_jax", "torch_eager") == 1.0
    assert table.ratio(task, "fer_jax_bf16", "torch_bf16") == 1.25
    assert table.ratio(task, "torch_compile", "torch_eager") == 0.95
    assert table.share(task, "fer_jax") == 0.2
    assert table.share(task, "fer_jax_bf16") == 0.25
    assert table.ceiling(task, "tf32") is None


def test_memory_shows_host_then_device() -> None:
    assert table.memory(result("float32", [1.0])) == "1,024 + 2"
    assert table.memory({"peak_bytes": 2**30, "device_peak_bytes": None}) == "1,024"
    assert table.memory({}) == table.NOTHING


def test_the_summary_has_a_row_per_precision_and_one_for_any() -> None:
    lines = list(table.summary({"one": make_task()}))
    assert lines[2:5] == [
        "| one | float32 | 20 (fer_jax) | 20 (torch_eager) | 1.00 |",
        "| one | bfloat16 | 50 (fer_jax_bf16) | 100 (torch_bf16) | 1.25 |",
        "| one | any | 50 (fer_jax_bf16) | 100 (torch_bf16) | 1.25 |",
    ]


def test_the_plot_has_a_bar_for_each_row_with_a_peer(tmp_path: Path) -> None:
    tasks = {"one": make_task()}
    assert [bar[1:] for bar in plot.bars(tasks)] == [
        ("torch_eager", 1.0), ("torch_bf16", 1.25), ("torch_bf16", 1.25),
    ]  # fmt: skip
    plot.draw(tasks, tmp_path / "speed.svg")
    assert (tmp_path / "speed.svg").read_text().count("<!-- 1.25 of torch_bf16 -->") == 2


def test_contenders_by_task_and_device() -> None:
    train, infer = Task("train", "vgg16", 224, 8), Task("infer", "vgg16", 224, 8)
    assert "onnxruntime" not in contenders_of(train, "cpu")
    assert "onnxruntime" in contenders_of(infer, "cpu")
    assert "torch_freeze" not in contenders_of(train, "cpu")
    precisions = {one.precision for one in contenders_of(train, "cpu").values()}
    assert precisions == {"float32", "bfloat16"}
    assert set(CONTENDERS) == {
        name
        for kind in (
            train,
            infer,
            Task("load", "images", 8, 2),
            Task("augment", "images", 8, 2),
        )
        for device in ("cpu", "gpu")
        for name in contenders_of(kind, device)
    }


def test_tasks_are_sorted(tmp_path):
    tasks = [
        Task("load", "images", 100, 64), Task("infer", "vgg16", 224, 32),
        Task("infer", "vgg16", 224, 1), Task("train", "inception_resnet_v2", 224, 4),
        Task("infer", "light_vgg", 100, 32), Task("train", "light_vgg", 100, 64),
    ]  # fmt: skip
    written = {task.name: {"task": vars(task)} for task in tasks}
    path = tmp_path / "speed.json"
    path.write_text(json.dumps({"tasks": written}))
    expected = [tasks[place].name for place in (5, 3, 2, 4, 1, 0)]
    assert list(table.read(path)) == expected


@pytest.mark.parametrize("module", ["table", "plot"])
def test_missing_results_give_one_message(tmp_path, module):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.speed.{module}", str(tmp_path / "none.json")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected results of")
    assert len(done.stderr.splitlines()) == 1
