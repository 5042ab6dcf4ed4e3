"""The training loop: chunks of steps, now and then a validation and a checkpoint.

A validation decides what is best and when to stop. Everything that happens between steps
happens between chunks, so that a run which was stopped anywhere repeats the same programs.
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
from fer_jax.config import flatten
from fer_jax.data.feed import Prefetch
from fer_jax.errors import UserError
from fer_jax.monitor import summary_csv as summary_table
from fer_jax.monitor import validation_images as watch
from fer_jax.monitor.console import PlainConsole, TrainingProgress
from fer_jax.monitor.profiler import Profiler
from fer_jax.monitor.summary_csv import SummaryTable
from fer_jax.monitor.timing import Timing, append_cost
from fer_jax.monitor.writers import JsonLinesWriter, MultiWriter, TensorBoardWriter
from fer_jax.runtime import distributed, sharding
from fer_jax.runtime import out_of_memory as device_memory
from fer_jax.runtime.signals import StopRequest
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.early_stopping import Plateau
from fer_jax.training.evaluation import Evaluation
from fer_jax.training.loop_state import Memory, NotFiniteError
from fer_jax.training.metrics import scalars
from fer_jax.training.session import Job, with_optimizer_of
from fer_jax.training.state import TrainState

_NAMED_RECORDS = 3  # of a batch, in a message


class InterruptedRunError(Exception):
    """Training was asked to stop and has saved; `signal` is the number of the request."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class DivergedError(UserError):
    """Numbers are not finite any more; the last checkpoint is from before."""


class Loop:
    """One sitting of training.

    Args:
      job: what is trained.
      state: to begin with.
      step: of the run, that `state` has done.
      memory: what the run remembers.
      checkpoints: of the run.
      began: when the sitting began, by time.monotonic; loading counts.
      profile_steps: to trace for TensorBoard.
    """

    def __init__(
        self,
        job: Job,
        state: TrainState,
        step: int,
        memory: Memory,
        checkpoints: Checkpoints,
        began: float,
        profile_steps: int = 0,
    ) -> None:
        self.job, self.state, self.step, self.memory = job, state, step, memory
        self._checkpoints = checkpoints
        self._first_step = step
        self._seconds_before = memory.seconds
        self._started = time.monotonic()
        self._unlogged: tuple[int, float] | None = None  # step and rate of a line not written
        self._compiled: set[tuple[int, int]] = set()  # stage and length of the chunks so far
        self._last_line: dict[str, float] = {}
        self._timing = Timing(step, job.config.train.batch_size, began)
        self._stop_sign = distributed.StopSign()
        with contextlib.ExitStack() as stack:
            self._stop = StopRequest()
            if distributed.is_alone():  # else JAX listens, so that all leave at one step
                stack.enter_context(self._stop)
            self._writer = stack.enter_context(open_writers(job, step))
            self._summary = SummaryTable(job.run.folder / summary_table.FILE, step)
            self._progress = stack.enter_context(open_progress(job, step, memory))
            traced = profile_steps if distributed.is_lead() else 0
            self._profiler = stack.enter_context(Profiler(job.run.folder, traced))
            self._batches = stack.enter_context(
                Prefetch(
                    lambda begin, end: job.feed.put(job.sampler.rows(begin, end - begin)),
                    job.plan.end_after,
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
        """Returns when the run is finished and saved.

        Raises:
          InterruptedRunError: on SIGINT or SIGTERM, when everything is saved.
          DivergedError: numbers are not finite; nothing of them is saved.
          UserError: a device has no memory left, or nothing can be written.
        """
        try:
            with (
                device_memory.explained(self.job.config, self.job.store),
                distributed.peers_explained(self.job.run.checkpoints),
            ):
                if not self.memory.finished:
                    self.job.prepare(self.step)  # if it was not before: a run that became longer
                while not self.memory.finished:
                    self._enter_stage()
                    asked = self._train_chunk()
                    if asked is not None and not self.memory.finished:
                        self._checkpoints.wait()
                        self._report_cost()
                        raise InterruptedRunError(asked)
                self._checkpoints.wait()
        except NotFiniteError as error:
            raise self._diverged(error) from error
        self._report_cost()

    def _train_chunk(self) -> int | None:
        """Dispatches a chunk, then logs, validates and saves what is due at its end.

        Returns the signal that asked to leave, if one has; then the state is saved.
        """
        first, last = self.step, self.job.plan.end_after(self.step)
        assert last is not None, "the memory says when the run is finished"
        self._dispatch(first, last)
        self.step = last
        self._log()
        validates = self.job.validates_after(first, last)
        asked = self._asked_to_leave()  # once: a later one waits for the next chunk
        if validates or self.job.logs_after(first, last):
            scale = self.memory.plateau.scale if self.memory.plateau else 1.0
            self._unlogged = last, self.job.stages[self.memory.stage].rate(last) * scale
        if asked is not None:
            self._progress.message("asked to stop: saving (Ctrl-C leaves at once, without)")
        if validates or asked is not None:
            # What is saved has been looked at: every step's numbers are finite.
            self.memory.window.fetch()
            self._log()
            with self._timing.aside():
                if validates:
                    self._validate()
                self._save()
        return asked

    def _asked_to_leave(self) -> int | None:
        """The signal that asked to leave; the same in every process of the job."""
        if distributed.is_alone():
            return self._stop.signal
        return signal.SIGTERM if self._stop_sign.asked() else None

    def _dispatch(self, first: int, last: int) -> None:
        program = self.job.programs[self.memory.stage]
        kind = (self.memory.stage, last - first)
        self._profiler.before(compiles=kind not in self._compiled)
        items = self._batches.take(first)
        with contextlib.nullcontext() if kind in self._compiled else self._timing.aside():
            self.state, metrics = program(self.state, self.job.feed.source, items)
        self._compiled.add(kind)
        self.memory.window.add(first, metrics)
        if first > self._first_step:
            self._timing.fetched(first, self._batches.waited)
            self._progress.tick(first, lambda: self.memory.window.means)
        if message := self._profiler.after(last - first, self.state):
            self._progress.message(message)

    def _enter_stage(self) -> None:
        """Begins the next stage when the present one is over: its optimizer has no memory yet.

        Validations of the stage before do not count against the patience of the next.
        """
        memory, stages = self.memory, self.job.stages
        if self.step < stages[memory.stage].end:
            return
        memory.stage += 1
        memory.stopping = dataclasses.replace(memory.stopping, waited=0)
        if memory.plateau:
            self._rescale_rate(dataclasses.replace(memory.plateau, scale=1.0, waited=0))
        self._progress.message(
            f"stage {memory.stage + 1} of {len(stages)} begins at step {self.step:,}"
        )
        self.job.prepare(self.step)
        state = with_optimizer_of(stages[memory.stage], self.state)
        self.state = sharding.place(state, self.job.mesh)

    def _log(self) -> None:
        """Writes the line that is due, once the metrics of its last step are there."""
        if self._unlogged is None:
            return
        (step, rate), self._unlogged = self._unlogged, None
        means = self.memory.window.close()
        self._last_line = {**means, "learning_rate": rate}
        named = {f"train/{name}": value for name, value in means.items()}
        self._writer.write_scalars(step, {**named, "learning_rate": rate})
        self._progress.trained(step, means)

    def _validate(self) -> None:
        """Evaluates the validation split and decides what is best and whether to stop."""
        job, memory, step = self.job, self.memory, self.step
        evaluation = job.evaluate(self.state.inference_variables)
        means = scalars(evaluation.confusion, evaluation.loss_sum)
        if not math.isfinite(means["loss"]):
            raise NotFiniteError(step - 1, f"the validation loss is {means['loss']}")
        memory.stopping = memory.stopping.after(means, step)
        is_best = memory.stopping.best_step == step
        if memory.plateau:
            self._rescale_rate(memory.plateau.after(is_best))
        is_last = memory.stage == len(job.stages) - 1
        memory.finished = step == job.total_steps or (is_last and memory.stopping.should_stop)
        self._write_validation(means, evaluation, is_best)
        if memory.finished and step < job.total_steps:
            self._progress.message(
                f"stopped early: no better validation {job.config.train.monitor} in "
                f"{memory.stopping.waited} validations"
            )

    def _rescale_rate(self, plateau: Plateau) -> None:
        """Hands the plateau's scale to the state, from which the next step reads it."""
        if self.memory.plateau and plateau.scale < self.memory.plateau.scale:
            self._progress.message(
                f"the learning rate is {plateau.scale:g} times what it was: no better validation "
                f"{self.job.config.train.monitor} in {plateau.patience} validations"
            )
        self.memory.plateau = plateau
        scale = sharding.replicate(np.float32(plateau.scale), self.job.mesh)
        self.state = dataclasses.replace(self.state, rate_scale=scale)

    def _write_validation(
        self, means: dict[str, float], evaluation: Evaluation, is_best: bool
    ) -> None:
        job, step, most = self.job, self.step, self.job.config.train.pictures
        named = {f"validation/{name}": value for name, value in means.items()}
        self._writer.write_scalars(step, named)
        if is_best and most:
            watch.write_pictures(
                self._writer, step, job.validation, job.validation_store, evaluation, most
            )
        self._writer.flush()
        self._progress.evaluated(step, means, is_best)
        if not distributed.is_lead():
            return
        line = self._last_line
        self._summary.add(
            {
                "step": step,
                "epoch": step / job.steps_per_epoch,
                "seconds": self._seconds(),
                "best": float(is_best),
                "learning_rate": line["learning_rate"],
                **{f"train_{name}": value for name, value in line.items()},
                **{f"validation_{name}": value for name, value in means.items()},
            }
        )

    def _save(self) -> None:
        self.memory.seconds = self._seconds()
        self._checkpoints.save(self.state, self.memory.to_json())

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _report_cost(self) -> None:
        cost = self._timing.cost(self.step, self._batches.waited)
        if distributed.is_lead():
            append_cost(self.job.run.folder, cost)
        self._progress.message(str(cost))

    def _diverged(self, error: NotFiniteError) -> DivergedError:
        """Says where, what is kept and which records were in the batch."""
        run = self.job.run
        rows = self.job.sampler.rows(error.step)[0]
        records = [self.job.training.ids[row] for row in rows]
        self._checkpoints.wait()
        kept = self._checkpoints.steps[-1:]
        content: dict[str, Any] = {
            "step": error.step + 1,
            "found": error.found,
            "checkpoint": kept[0] if kept else None,
            "records": records,
        }
        path = run.folder / "diverged.json"
        if distributed.is_lead():
            files.write_text(path, json.dumps(content, indent=2) + "\n")
        last = f"the checkpoint of step {kept[0]} is kept" if kept else "no step was saved before"
        return DivergedError(
            f"{error}; {last} in {run.checkpoints}. The batch was {len(records)} records: "
            f"{', '.join(records[:_NAMED_RECORDS])} ... (all in {path}); try a lower "
            "--config.optim.learning_rate in another --workdir"
        )


def open_writers(job: Job, step: int) -> MultiWriter:
    """TensorBoard's events and metrics.jsonl, behind what they say of `step` and before.

    Only the lead process writes.
    """
    if not distributed.is_lead():
        return MultiWriter([])
    board = TensorBoardWriter(job.run.folder, continues_at=step)
    board.write_hparams(flatten(job.config.to_dict()))
    return MultiWriter([board, JsonLinesWriter(job.run.metrics, step)])


def open_progress(job: Job, step: int, memory: Memory) -> TrainingProgress:
    """What people watch; the lead process alone shows it."""
    nowhere = None if distributed.is_lead() else PlainConsole(file=io.StringIO())
    return TrainingProgress(
        total_steps=job.total_steps,
        steps_per_epoch=job.steps_per_epoch,
        batch_size=job.config.train.batch_size,
        first_step=step,
        best=memory.stopping.best,
        monitor=memory.stopping.monitor,
        console=nowhere,
    )
