"""Whole runs in new processes: finished, killed, stopped, repeated, evaluated."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import time
from pathlib import Path

import jax
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from fer_jax import config as configuration
from fer_jax import run_dir as run_directory
from fer_jax.cli import train
from fer_jax.experiments import evaluate
from fer_jax.training.build import make_model
from fer_jax.training.checkpoint import Checkpoints, state_digest
from fer_jax.training.stages import make_stages
from fer_jax.training.state import create_state

STEPS_PER_EPOCH, EPOCHS = 35, 4  # 2,240 training images in batches of 64


def final_state(folder: Path):
    """Returns step, digest and loop state of a run's newest checkpoint."""
    run = run_directory.open_run(folder)
    model = make_model(run.settings, len(run.labels))
    stages = make_stages(run.settings, model, 1)
    with Checkpoints(run.checkpoints) as checkpoints:
        latest = checkpoints.restore_latest(
            lambda loop_state: create_state(
                model, stages[loop_state["stage"]].optimizer, run.preprocessing.size, 0
            )
        )
    latest.loop_state.pop("seconds")
    return latest.step, state_digest(latest.state), latest.loop_state


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def wait_for_step(process, folder: Path, step: int) -> None:
    """Waits until the run has logged `step`; fails if it ends before."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        file = folder / "metrics.jsonl"
        if file.exists():
            lines = [line for line in file.read_text().splitlines() if line.endswith("}")]
            if lines and json.loads(lines[-1])["step"] >= step:
                return
        time.sleep(0.01)
    pytest.fail(f"step {step} never came")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cli_in, tiny):
    """Returns an uninterrupted run with its report; others are compared with it."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = cli_in(folder).run(*tiny, "--workdir=run", "--config.train.pictures=3")
    assert done.returncode == 0, done.stderr
    return folder / "run", done


def test_a_run_ends_with_the_report_and_the_paths_of_its_figures(unbroken):
    folder, done = unbroken
    for heading in ("precision    recall  f1-score   support", "macro avg", "SYNTHETIC"):
        assert heading in done.stdout
    report = folder / "report"
    for name in ("report.txt", "report.json", "report.md", "predictions.csv",
                 "confusion_matrix.png", "emotion_analysis_1.png", "emotion_analysis_2.png",
                 "learning_curves.png"):  # fmt: skip
        assert (report / name).stat().st_size > 0
    assert (report / "report.txt").read_text().strip() in done.stdout
    scores = json.loads((report / "report.json").read_text())
    assert scores["card"]["split"] == "test"
    low, high = scores["intervals"]["accuracy"]
    assert done.stdout.splitlines()[-2:] == [
        f"accuracy {scores['accuracy']:.4f}, 95% interval {low:.4f} to {high:.4f}",
        "run/report/index.html",
    ]
    said = done.stdout[done.stdout.index("image store:") :]  # after the data's preparation
    assert max(map(len, said.splitlines())) <= 80  # stderr is a pipe here, not a terminal
    assert scores["card"]["training"] == "adam, learning rate 0.002 (cosine), batch size 64"
    assert scores["card"]["versions"]["jax"] == jax.__version__


def test_tensorboard_shows_curves_settings_and_figures(unbroken):
    accumulator = EventAccumulator(str(unbroken[0]))
    accumulator.Reload()
    tags = set(accumulator.Tags()["tensors"])
    assert {
        "train/loss", "train/accuracy", "validation/accuracy", "learning_rate",
        "test/accuracy", "test/balanced_accuracy", "test/confusion_matrix",
        "test/emotion_analysis_1", "_hparams_/session_start_info", "train/gradient_norm",
        "train/parameter_norm", "validation/confusion_matrix", "validation/misclassified",
    } <= tags  # fmt: skip
    assert [event.step for event in accumulator.Tensors("validation/accuracy")] == [
        STEPS_PER_EPOCH * epoch for epoch in range(1, EPOCHS + 1)
    ]


def test_validations_and_timing_are_stored(unbroken):
    folder, done = unbroken
    with open(folder / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [35, 70, 105, 140]
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert all(row[name] for row in rows for name in row)
    best = max(rows, key=lambda row: float(row["validation_accuracy"]))
    assert best["best"] == "1"
    (invocation,) = json.loads((folder / "timing.json").read_text())["sittings"]
    assert (invocation["first_step"], invocation["last_step"]) == (0, 140)
    assert 0 < invocation["seconds_to_first_step"] < invocation["seconds"]
    assert invocation["images_per_second"] > 0
    assert 0 <= invocation["waiting_share"] <= 1
    assert invocation["host_bytes"] > 50 * 2**20
    assert "140 steps in " in done.stderr
    assert " images/s, " in done.stderr


def test_the_metrics_contain_each_step_once(unbroken):
    rows = logged(unbroken[0])
    training = [row["step"] for row in rows if "train/loss" in row]
    validation = [row["step"] for row in rows if "validation/accuracy" in row]
    assert training == list(range(7, STEPS_PER_EPOCH * EPOCHS + 1, 7))
    assert validation == [STEPS_PER_EPOCH * epoch for epoch in range(1, EPOCHS + 1)]


@pytest.mark.slow
def test_the_same_command_again_reports_a_finished_run(unbroken, cli_in, tiny):
    folder, first = unbroken
    before = final_state(folder)
    again = cli_in(folder.parent).run(*tiny, "--workdir=run")
    assert again.returncode == 0
    assert "training is finished" in again.stdout
    report = (folder / "report" / "report.txt").read_text().strip()
    assert report in again.stdout
    assert report in first.stdout
    assert final_state(folder) == before


@pytest.mark.slow
def test_another_seed_gives_another_run(unbroken, cli, tiny):
    done = cli.run(*tiny, "--workdir=run", "--config.seed=1")
    assert done.returncode == 0, done.stderr
    assert final_state(cli.folder / "run")[1] != final_state(unbroken[0])[1]


@pytest.mark.slow
def test_a_run_killed_twice_ends_bit_identical(unbroken, cli, tiny):
    folder = cli.folder / "run"
    for step in (50, 90):  # within the second and the third epoch
        process = cli.start(*tiny, "--workdir=run")
        wait_for_step(process, folder, step)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
    done = cli.run(*tiny, "--workdir=run")
    assert done.returncode == 0, done.stderr
    assert "resuming at step" in done.stdout
    assert final_state(folder) == final_state(unbroken[0])
    assert logged(folder) == logged(unbroken[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["ctrl-c", "sigterm", "sighup"],
)
@pytest.mark.usefixtures("_hangup")
def test_a_stopped_run_is_saved_and_explains_how_to_resume(unbroken, cli, tiny, number, code):
    folder = cli.folder / "run"
    process = cli.start(*tiny, "--workdir=run")
    wait_for_step(process, folder, 50)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    command = err.split("to continue: ")[1].strip()
    assert command.startswith("python -m fer_jax train --config=configs/demo.py")
    assert "Traceback" not in err
    step, _, loop_state = final_state(folder)
    assert step > 50
    assert step % STEPS_PER_EPOCH  # between two validations, not at one
    assert not loop_state["finished"]
    done = cli.run(*tiny, "--workdir=run")
    assert done.returncode == 0, done.stderr
    assert f"resuming at step {step}" in done.stdout
    assert final_state(folder) == final_state(unbroken[0])
    assert logged(folder) == logged(unbroken[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.usefixtures("_hangup")
def test_a_signal_during_the_final_evaluation(tmp_path, monkeypatch, capsys, number, swallowed):
    def stopped(*_, **__):
        with contextlib.suppress(KeyboardInterrupt) if swallowed else contextlib.nullcontext():
            signal.raise_signal(number)

    monkeypatch.setattr(evaluate, "run_evaluation", stopped)
    for name in ("report_training", "print_report"):
        monkeypatch.setattr(evaluate, name, lambda _: None)
    run = run_directory.Run(tmp_path, configuration.load_settings("demo"), (), None, {})
    with pytest.raises(SystemExit) as left:
        train._evaluate(run, ["--config=a b"])
    assert left.value.code == 128 + number
    said = capsys.readouterr().err
    assert "is saved, to evaluate it: python -m fer_jax train '--config=a b'" in said


@pytest.mark.slow
def test_early_stopping(cli, tiny):
    # At this rate nothing is learned: the first validation stays the best.
    done = cli.run(*tiny, "--workdir=run", "--config.train.patience=2",
                   "--config.optim.learning_rate=1e-12")  # fmt: skip
    assert done.returncode == 0, done.stderr
    step, _, loop_state = final_state(cli.folder / "run")
    assert step == 3 * STEPS_PER_EPOCH
    assert loop_state["stopping"]["best_step"] == STEPS_PER_EPOCH
    assert "stopped early" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(cli, tiny):
    done = cli.run(*tiny, "--workdir=run", "--config.optim.learning_rate=1e30")
    assert done.returncode == 2
    assert "error: the " in done.stderr
    assert " no step was saved before" in done.stderr
    assert "--config.optim.learning_rate" in done.stderr
    assert "Traceback" not in done.stderr
    content = json.loads((cli.folder / "run" / "diverged.json").read_text())
    assert len(set(content["records"])) == 64
    assert content["records"][0] in done.stderr
    assert f"at step {content['step']};" in done.stderr


@pytest.mark.slow
def test_evaluate_reports_any_split_of_a_run(unbroken, cli_in):
    done = cli_in(unbroken[0].parent).run("run", "--split=validation", verb="evaluate")
    assert done.returncode == 0, done.stderr
    assert "n = 420" in done.stdout


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def without_digest(folder: Path) -> None:
    """As an older version wrote the run."""
    edit(folder / "run.json", lambda content: content.pop("digest"))


def changed(folder: Path) -> None:
    edit(folder / "run.json", lambda content: content["labels"].reverse())


def other_labels(folder: Path) -> None:
    without_digest(folder)
    edit(folder / "run.json", lambda content: content["labels"].pop())


def other_network(folder: Path) -> None:
    without_digest(folder)
    edit(folder / "config.json", lambda content: content["model"].update(name="custom_cnn"))


def no_checkpoint(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (changed, "its content is not what was written: the digest differs"),
        pytest.param(
            other_labels,
            "surprise, fear, disgust), found 7 in its data (neutral",
            marks=pytest.mark.slow,
        ),
        pytest.param(other_network, "is of another network: expected ", marks=pytest.mark.slow),
        (no_checkpoint, "found none; train the run first"),
    ],
)
def test_a_run_that_does_not_match_is_not_evaluated(unbroken, cli, spoil, says):
    shutil.copytree(unbroken[0], cli.folder / "run")
    spoil(cli.folder / "run")
    done = cli.run("run", verb="evaluate")
    assert done.returncode == 2
    assert f"\n{done.stderr}".count("\nerror: ") == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
