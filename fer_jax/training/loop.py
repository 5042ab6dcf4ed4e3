"""The training loop: chunks of steps, with validations and checkpoints between them.

A validation decides what is best and when to stop. Everything that happens between steps happens
between chunks, so that a run that was stopped anywhere executes the same programs again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import signal
import time
from types import TracebackType
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax.data.feed import Prefetch
from fer_jax.errors import UserError
from fer_jax.monitor import summary_csv
from fer_jax.monitor.console import PlainConsole, TrainingProgress, wrap
from fer_jax.monitor.jsonl import JsonLinesWriter
from fer_jax.monitor.profiler import Profiler
from fer_jax.monitor.summary_csv import SummaryTable
from fer_jax.monitor.tensorboard import TensorBoardWriter
from fer_jax.monitor.timing import Timing, append_cost
from fer_jax.monitor.trackers import open_trackers
from fer_jax.monitor.validation_images import write_validation_images
from fer_jax.monitor.writers import MultiWriter
from fer_jax.runtime import distributed, out_of_memory, sharding
from fer_jax.runtime.signals import StopRequest
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.early_stopping import Plateau
from fer_jax.training.evaluation import Evaluation
from fer_jax.training.loop_state import LoopState, NotFiniteError
from fer_jax.training.metrics import head_scalars, scalars
from fer_jax.training.session import Session
from fer_jax.training.state import TrainState

_RECORDS_IN_MESSAGE = 3


class InterruptedRunError(Exception):
    """Training was asked to stop and has saved; `signal` is the number of the signal."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class DivergedError(UserError):
    """Training produced NaN or Inf; the last checkpoint is from before."""


class Loop:
    """One invocation of training; a run may span several.

    Args:
      session: what is trained.
      state: to start from.
      step: number of steps of the run that `state` has done.
      loop_state: to start from.
      checkpoints: of the run.
      started: when the invocation started, by time.monotonic; includes loading.
      profile_steps: number of steps to trace for TensorBoard.
    """

    def __init__(
        self,
        session: Session,
        state: TrainState,
        step: int,
        loop_state: LoopState,
        checkpoints: Checkpoints,
        started: float,
        profile_steps: int = 0,
    ) -> None:
        self.state, self.step, self.loop_state = state, step, loop_state
        self._session, self._settings = session, session.settings
        self._checkpoints = checkpoints
        self._first_step = step
        self._seconds_before = loop_state.seconds
        self._loop_started = time.monotonic()
        self._unlogged: tuple[int, float] | None = None  # step and rate of a pending log line
        self._compiled: set[tuple[int, int]] = set()  # stage and length of the chunks so far
        self._last_line: dict[str, float] = {}
        self._timing = Timing(step, self._settings.train.batch_size, started)
        self._stop_sign = distributed.StopSign()
        with contextlib.ExitStack() as stack:
            self._stop = StopRequest()
            if distributed.is_single_process():  # else JAX handles SIGTERM for all processes
                stack.enter_context(self._stop)
            self._writer = stack.enter_context(_open_writers(session, step))
            self._summary = SummaryTable(session.run.folder / summary_csv.FILE, step)
            self._progress = stack.enter_context(_open_progress(session, step, loop_state))
            traced = profile_steps if distributed.is_lead() else 0
            self._profiler = stack.enter_context(Profiler(session.run.folder, traced))
            self._batches = stack.enter_context(
                Prefetch(
                    lambda first, last: session.feed.put(session.sampler.rows(first, last - first)),
                    session.plan.end_after,
                )
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> Loop:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self) -> None:
        """Trains until the run is finished and saved.

        Raises:
          InterruptedRunError: on SIGINT, SIGTERM or SIGHUP, after everything is saved.
          DivergedError: NaN or Inf; nothing of it is saved.
          UserError: a device is out of memory, or a file cannot be written.
        """
        stop_signal: int | None = None
        try:
            with (
                out_of_memory.advice(self._settings, self._session.store),
                distributed.report_lost_peers(self._session.run.checkpoints),
            ):
                while not self.loop_state.finished and stop_signal is None:
                    self._enter_stage()
                    stop_signal = self._train_chunk()
                self._checkpoints.wait()
        except NotFiniteError as error:
            raise self._diverged(error) from error
        self._report_cost()
        # A signal may arrive after the last chunk, too: the evaluation would take minutes.
        stop_signal = stop_signal or self._stop.signal
        if stop_signal is not None:
            raise InterruptedRunError(stop_signal)

    def _train_chunk(self) -> int | None:
        """Dispatches a chunk, then logs, validates and saves what is due at its end.

        Returns the stop signal if one has arrived; the state is saved then.
        """
        first, last = self.step, self._session.plan.end_after(self.step)
        assert last is not None, "the loop state says when the run is finished"
        self._dispatch(first, last)
        self.step = last
        self._log()
        validates = self._session.validates_after(first, last)
        stop_signal = self._stop_signal()  # read once: a later signal waits for the next chunk
        if validates or self._session.logs_after(first, last):
            plateau = self.loop_state.plateau
            rate = self._session.stages[self.loop_state.stage].rate(last)
            self._unlogged = last, rate * (plateau.scale if plateau else 1.0)
        if stop_signal is not None:
            self._progress.message("asked to stop: saving (Ctrl-C again leaves without saving)")
        if validates or stop_signal is not None:
            # Only a state whose metrics are known to be finite is saved.
            self.loop_state.window.fetch()
            self._log()
            with self._timing.exclude():
                if validates:
                    self._validate()
                self._save()
        return stop_signal

    def _stop_signal(self) -> int | None:
        """The signal that asked to stop; the same in every process of the job."""
        if distributed.is_single_process():
            return self._stop.signal
        return signal.SIGTERM if self._stop_sign.asked() else None

    def _dispatch(self, first: int, last: int) -> None:
        program = self._session.programs[self.loop_state.stage]
        kind = (self.loop_state.stage, last - first)
        self._profiler.before(compiles=kind not in self._compiled)
        items = self._batches.take(first)
        with contextlib.nullcontext() if kind in self._compiled else self._timing.exclude():
            self.state, metrics = program(self.state, self._session.feed.source, items)
        self._compiled.add(kind)
        self.loop_state.window.add(first, metrics)
        if first > self._first_step:
            self._timing.fetched(first, self._batches.waited)
            self._progress.tick(first, lambda: self.loop_state.window.means)
        if message := self._profiler.after(last - first, self.state):
            self._progress.message(message)

    def _enter_stage(self) -> None:
        """Starts the next stage if the current one is over, with a new optimizer state.

        Validations of the previous stage do not count against the patience of the next.
        """
        loop_state, stages = self.loop_state, self._session.stages
        if self.step < stages[loop_state.stage].end:
            return
        loop_state.stage += 1
        loop_state.stopping = dataclasses.replace(loop_state.stopping, waited=0)
        if loop_state.plateau:
            self._rescale_rate(dataclasses.replace(loop_state.plateau, scale=1.0, waited=0))
        self._progress.message(
            f"stage {loop_state.stage + 1} of {len(stages)} starts at step {self.step:,}"
        )
        optimizer = stages[loop_state.stage].optimizer
        state = dataclasses.replace(self.state, opt_state=optimizer.init(self.state.params))
        self.state = sharding.place(state, self._session.mesh)

    def _log(self) -> None:
        """Writes the pending log line, once the metrics of its last step are fetched."""
        if self._unlogged is None:
            return
        (step, rate), self._unlogged = self._unlogged, None
        means = self.loop_state.window.close()
        self._last_line = {**means, "learning_rate": rate}
        named = {f"train/{name}": value for name, value in means.items()}
        self._writer.write_scalars(step, {**named, "learning_rate": rate})
        self._progress.trained(step, means)

    def _validate(self) -> None:
        """Evaluates the validation split and decides what is best and whether to stop."""
        session, loop_state, step = self._session, self.loop_state, self.step
        evaluation = session.evaluate(self.state.inference_variables)
        means = _means(evaluation, session)
        if not math.isfinite(means["loss"]):
            raise NotFiniteError(step - 1, f"the validation loss is {means['loss']}")
        loop_state.stopping = loop_state.stopping.after(means, step)
        is_best = loop_state.stopping.best_step == step
        if loop_state.plateau:
            self._rescale_rate(loop_state.plateau.after(is_best))
        is_last_stage = loop_state.stage == len(session.stages) - 1
        stops_early = is_last_stage and loop_state.stopping.should_stop
        loop_state.finished = step == session.steps.total or stops_early
        self._write_validation(means, evaluation, is_best)
        if loop_state.finished and step < session.steps.total:
            self._progress.message(
                f"stopped early: validation {self._settings.train.monitor} has not improved in "
                f"{loop_state.stopping.waited} validations"
            )

    def _rescale_rate(self, plateau: Plateau) -> None:
        """Puts the plateau's scale into the state, where the next step reads it."""
        if self.loop_state.plateau and plateau.scale < self.loop_state.plateau.scale:
            self._progress.message(
                f"learning rate scaled by {plateau.scale:g}: validation "
                f"{self._settings.train.monitor} has not improved in {plateau.patience} validations"
            )
        self.loop_state.plateau = plateau
        scale = sharding.replicate(np.float32(plateau.scale), self._session.mesh)
        self.state = dataclasses.replace(self.state, rate_scale=scale)

    def _write_validation(
        self, means: dict[str, float], evaluation: Evaluation, is_best: bool
    ) -> None:
        session, step, limit = self._session, self.step, self._settings.train.pictures
        named = {f"validation/{name}": value for name, value in means.items()}
        self._writer.write_scalars(step, named)
        if is_best and limit:
            write_validation_images(
                self._writer, step, session.validation, session.validation_store,
                evaluation.confusion, evaluation.probabilities, limit,
            )  # fmt: skip
        self._writer.flush()
        self._progress.evaluated(step, means, is_best)
        if not distributed.is_lead():
            return
        line = self._last_line
        self._summary.add(
            {
                "step": step,
                "epoch": step / session.steps.epoch,
                "seconds": self._seconds(),
                "best": float(is_best),
                "learning_rate": line["learning_rate"],
                **{f"train_{name}": value for name, value in line.items()},
                **{f"validation_{name}": value for name, value in means.items()},
            }
        )

    def _save(self) -> None:
        self.loop_state.seconds = self._seconds()
        self._checkpoints.save(self.state, self.loop_state.to_json())

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._loop_started

    def _report_cost(self) -> None:
        cost = self._timing.cost(self.step, self._batches.waited)
        if distributed.is_lead():
            append_cost(self._session.run.folder, cost)
        for line in wrap(str(cost)):
            self._progress.message(line)

    def _diverged(self, error: NotFiniteError) -> DivergedError:
        """Returns an error that names step, checkpoint and the records of the batch."""
        run = self._session.run
        rows = self._session.sampler.rows(error.step)[0]
        records = [self._session.training.ids[row] for row in rows]
        self._checkpoints.wait()
        saved = self._checkpoints.steps[-1:]
        content: dict[str, Any] = {
            "step": error.step + 1,
            "found": error.found,
            "checkpoint": saved[0] if saved else None,
            "records": records,
        }
        path = run.folder / "diverged.json"
        if distributed.is_lead():
            files.write_text(path, json.dumps(content, indent=2) + "\n")
        last = f"the checkpoint of step {saved[0]} is kept" if saved else "no step was saved before"
        return DivergedError(
            f"{error}; {last} in {run.checkpoints}. The batch had {len(records)} records: "
            f"{', '.join(records[:_RECORDS_IN_MESSAGE])} ... (all in {path}); try a lower "
            "--config.optim.learning_rate in another --workdir"
        )


def _means(evaluation: Evaluation, session: Session) -> dict[str, float]:
    """Returns the scores of a validation; the loss includes the concordance's, over the split."""
    means, recipe = scalars(evaluation.confusion, evaluation.loss_sum), session.recipe
    if evaluation.head_sums is not None:
        means |= head_scalars(evaluation.head_sums, recipe.heads)
    if recipe.heads.affect:
        means["loss"] += recipe.heads_weight * (1 - means["ccc"])
    return means


def _open_writers(session: Session, step: int) -> MultiWriter:
    """Opens TensorBoard's events and metrics.jsonl, dropping entries after `step`, and trackers.

    Only the lead process writes.
    """
    if not distributed.is_lead():
        return MultiWriter([])
    run, hparams = session.run, session.settings.flat()
    trackers = open_trackers(session.settings.trackers, run.folder, run.full_name, hparams)
    board = TensorBoardWriter(run.folder, continues_at=step)
    board.write_hparams(hparams, run.full_name)
    return MultiWriter([board, JsonLinesWriter(run.metrics, step), *trackers])


def _open_progress(session: Session, step: int, loop_state: LoopState) -> TrainingProgress:
    """Opens the progress display; only the lead process shows it."""
    hidden = None if distributed.is_lead() else PlainConsole(file=io.StringIO())
    return TrainingProgress(
        total_steps=session.steps.total,
        steps_per_epoch=session.steps.epoch,
        batch_size=session.settings.train.batch_size,
        first_step=step,
        best=loop_state.stopping.best,
        monitor=loop_state.stopping.monitor,
        console=hidden,
    )
