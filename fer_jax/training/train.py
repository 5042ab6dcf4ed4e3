"""Trains a network, or resumes a run that was stopped.

`train` returns a finished run. Evaluation on test and the report are made by
`fer_jax.experiments.evaluate`.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from pathlib import Path
from typing import Any

from fer_jax import files, run_dir
from fer_jax.data.augment import check_extra
from fer_jax.monitor.console import wrap
from fer_jax.monitor.trackers import check_installed
from fer_jax.run_dir import Run
from fer_jax.runtime import distributed, sharding
from fer_jax.settings import Settings
from fer_jax.training.build import make_model, make_preprocessing
from fer_jax.training.checkpoint import Checkpoints, Restored, check_path
from fer_jax.training.early_stopping import EarlyStopping, Plateau
from fer_jax.training.initial_weights import load_initial_weights
from fer_jax.training.loop import Loop
from fer_jax.training.loop_state import LoopState, MetricWindow
from fer_jax.training.model_summary import summarize
from fer_jax.training.session import Session, make_session
from fer_jax.training.stages import make_stages
from fer_jax.training.state import TrainState, create_state, with_weights


def train(settings: Settings, folder: Path, profile_steps: int = 0) -> Run:
    """Trains until the last epoch, or until validation stops improving.

    Args:
      settings: of the run.
      folder: the run directory; a run in it is resumed.
      profile_steps: number of steps to trace into the run directory, for TensorBoard.

    Returns:
      The finished run, which contains the checkpoint with the best validation score.

    Raises:
      UserError: wrong input.
      InterruptedRunError: on SIGINT, SIGTERM or SIGHUP, after everything is saved.
    """
    started = time.monotonic()
    check(settings)  # before anything is written
    check_path(folder)
    with run_dir.locked(folder) if distributed.is_lead() else contextlib.nullcontext():
        session = make_session(settings, folder)
        run = session.run
        with Checkpoints(
            run.checkpoints, keep=settings.train.keep, identity=run.identity
        ) as checkpoints:
            restored = checkpoints.restore_latest(session.abstract_state)
            if restored is None and session.initial_weights is None and session.run.weights:
                session = make_session(settings, folder)  # no whole checkpoint: start again
            step, state, loop_state = _start(session, restored)
            _announce(session, state.variables, step, loop_state)
            if not loop_state.finished:
                with Loop(
                    session, state, step, loop_state, checkpoints, started, profile_steps
                ) as loop:
                    loop.run()
    return session.run


def check(settings: Settings) -> None:
    """Checks the settings against devices and network, before data is opened.

    Raises:
      UserError: names the field.
    """
    mesh = sharding.data_mesh(settings.train.fsdp)
    for field, size in (
        ("config.train.batch_size", settings.train.batch_size),
        ("config.eval.batch_size", settings.eval.batch_size),
    ):
        sharding.check_batch_size(field, size, mesh)
    make_stages(settings, make_model(settings, classes=2))
    check_extra(settings.augment.extra)
    check_installed(settings.trackers)
    if settings.model.pretrained == "none":
        make_preprocessing(settings, None)


def _start(session: Session, restored: Restored | None) -> tuple[int, TrainState, LoopState]:
    """Returns step, state and loop state: of the newest checkpoint, or of a new run."""
    if restored is None:
        return 0, _initial_state(session), _initial_loop_state(session)
    loop_state = LoopState.from_json(
        restored.loop_state, len(session.run.labels), session.run.heads
    )
    if restored.step < session.steps.total and not loop_state.stopping.should_stop:
        loop_state.finished = False  # the run was made longer
    if not loop_state.finished:
        _note_environment(session, loop_state)
    return restored.step, restored.state, loop_state


def _note_environment(session: Session, loop_state: LoopState) -> None:
    """Adds the present environment to the loop state, and prints how it differs from the last."""
    found = session.environment
    if loop_state.environments[-1:] == [found]:
        return
    if loop_state.environments:
        changes = run_dir.describe_changes([loop_state.environments[-1], found])
        print(
            f"{session.run.folder}: resuming with {changes}: the bits of the parameters may "
            "differ from an unbroken run's"
        )
    loop_state.environments.append(found)


def _initial_state(session: Session) -> TrainState:
    """Returns the state of a new run, with its initial weights.

    Raises:
      UserError: pretrained weights do not fit the network.
    """
    size, optimizer = session.run.preprocessing.size, session.stages[0].optimizer
    seed, mesh = session.settings.seed, session.mesh
    state = create_state(session.model, optimizer, size, seed, session.recipe, mesh)
    if session.initial_weights is not None:
        params, batch_stats, line = load_initial_weights(
            session.initial_weights,
            state.params,
            state.batch_stats,
            session.run.labels,
            session.run.heads,
        )
        state = with_weights(state, *sharding.place((params, batch_stats), mesh))
        line = f"{line}; normalization: {session.run.preprocessing.normalize}"
        print(*wrap(line), sep="\n")
    return state


def _initial_loop_state(session: Session) -> LoopState:
    optim, train = session.settings.optim, session.settings.train
    plateau = None
    if optim.schedule == "plateau":
        plateau = Plateau(optim.plateau_patience, optim.decay_factor)
    return LoopState(
        stopping=EarlyStopping(session.steps.patience, train.monitor),
        window=MetricWindow(classes=len(session.run.labels), heads=session.run.heads),
        plateau=plateau,
        environments=[session.environment],
    )


def _announce(
    session: Session, variables: dict[str, Any], step: int, loop_state: LoopState
) -> None:
    """Prints what is trained on what, and writes model.txt."""
    run, settings = session.run, session.settings
    network = summarize(session.model, variables, run.preprocessing.size)
    title = f"{settings.model.name} at {run.preprocessing.size} pixels: {network}"
    if distributed.is_lead():
        files.write_text(run.folder / "model.txt", f"{title}\n{network.table}\n")
    images = f"{len(session.training):,} training, {len(session.validation):,} validation images"
    classes = f"{len(run.labels)} classes"
    if run.heads.units:
        classes += f", {len(run.heads.units)} action units"
    if run.heads.affect:
        classes += ", valence and arousal"
    lines = [f"run: {run.folder}", title, f"on {run.data['name']}: {images}, {classes}"]
    if settings.train.balance != "none":
        lines.append(f"class shares in training: {session.class_shares()}")
    print(*itertools.chain.from_iterable(map(wrap, lines)), sep="\n")
    if loop_state.finished:
        print(f"training is finished (step {step:,}); the best checkpoint is evaluated again")
    elif step:
        print(f"resuming at step {step:,} of {session.steps.total:,}")
    sys.stdout.flush()  # before the progress display, which uses stderr
