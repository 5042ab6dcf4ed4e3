"""Trains a network as its configuration says, or continues where a run stopped.

`train` returns a finished run; evaluation on test and the report are evaluate's. The
loop is a sequence of named steps: a batch, an optimizer step, now and then a
validation, which decides what is best and when to stop, and a checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from fer_jax import experiment, files
from fer_jax import run as run_directory
from fer_jax.config import flatten
from fer_jax.data.preprocess import InputFormat
from fer_jax.data.records import Records, load_records
from fer_jax.data.sampling import BatchSampler
from fer_jax.engine import sharding
from fer_jax.engine.checkpoint import Checkpoints
from fer_jax.engine.evaluation import evaluate_records
from fer_jax.engine.memory import EarlyStopping, Memory, MetricWindow
from fer_jax.engine.metrics import scalars
from fer_jax.engine.overview import describe_network
from fer_jax.engine.progress import Progress
from fer_jax.engine.signals import StopRequest
from fer_jax.engine.stages import Stage
from fer_jax.engine.state import TrainState, abstract_state, create_state
from fer_jax.engine.steps import EvalStep, TrainStep, make_eval_step, make_train_step
from fer_jax.engine.writers import JsonLinesWriter, MultiWriter, TensorBoardWriter
from fer_jax.errors import UserError
from fer_jax.initial import Initial, find_initial, load_initial
from fer_jax.run import Run
from tfds_builders import build


class InterruptedRunError(Exception):
    """Training was asked to stop and has saved; `signal` is the number of the request."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class DivergedError(UserError):
    """The loss is not finite any more; the last checkpoint is from before."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that does not change while training.

    Attributes:
      weights: what the network begins with; None where that is chance or lies behind.
    """

    run: Run
    training: Records
    validation: Records
    mesh: Mesh
    stages: tuple[Stage, ...]
    train_steps: tuple[TrainStep, ...]
    eval_step: EvalStep
    model: nn.Module
    weights: Initial | None

    @property
    def config(self) -> ConfigDict:
        """The run's configuration."""
        return self.run.config

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return steps_per_epoch(self.training, self.config)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run if it does not stop early."""
        return self.stages[-1].end

    def template_of(self, memory: dict[str, Any]) -> TrainState:
        """A state of the form that the stage of a checkpoint's memory has."""
        optimizer = self.stages[memory["stage"]].optimizer
        return abstract_state(self.model, optimizer, self.run.preprocessing.size, self.mesh)

    def validates_after(self, step: int) -> bool:
        """Whether a validation follows when `step` steps are done."""
        period = self.steps_per_epoch * self.config.train.eval_epochs
        return step % period == 0 or step == self.total_steps


def train(config: ConfigDict, folder: Path) -> Run:
    """Trains until the last epoch or until validation stops getting better.

    Args:
      config: the locked configuration.
      folder: the run directory; a run that is there is continued.

    Returns:
      The finished run; its checkpoint with the best validation accuracy is kept.

    Raises:
      UserError: input that cannot be used.
      InterruptedRunError: on SIGINT or SIGTERM, when everything is saved.
    """
    check_config(config)  # before anything is written
    with run_directory.locked(folder):
        job = make_job(config, folder)
        with Checkpoints(job.run.checkpoints) as checkpoints:
            restored = checkpoints.restore_latest(job.template_of)
            if restored is None and job.weights is None and job.run.weights is not None:
                job = make_job(config, folder)  # every checkpoint was damaged: from the beginning
            if restored is None:
                state, memory = first_state(job), new_memory(job)
            else:
                state = restored.state
                memory = Memory.from_json(restored.memory, len(job.run.labels))
            announce(job, state.variables, restored.step if restored else 0, memory)
            if not memory.finished:
                fit(job, state, memory, checkpoints)
    return job.run


def check_config(config: ConfigDict) -> None:
    """Refuses what no data could make right.

    Raises:
      UserError: naming the field.
    """
    experiment.check_training(config)
    for section in ("train", "eval"):
        size = config[section].batch_size
        sharding.check_batch_size(f"config.{section}.batch_size", size, sharding.data_mesh())
    experiment.make_augmentation(config)
    experiment.make_stages(config, experiment.make_model(config, classes=2), epoch_steps=1)
    if config.model.pretrained == "none":
        experiment.make_preprocessing(config, None)


def make_job(config: ConfigDict, folder: Path) -> Job:
    """Finds the first weights, opens the data and builds the programs."""
    data = config.data
    build.get(data.name, data.config, data.dir)  # a name that is wrong, before weights are fetched
    mesh = sharding.data_mesh()
    augmentation = experiment.make_augmentation(config)
    begun = run_directory.continued(folder, config)
    weights = None if begun else find_initial(config, mesh)
    kept = weights.to_json() if weights else begun.weights if begun else None
    preprocessing = experiment.make_preprocessing(config, normalization_of(begun, weights))

    builder = build.prepare(data.name, data.config, data.dir, data.manual_dir)
    training = load_records(builder, "train", preprocessing)
    validation = load_records(builder, "validation", preprocessing)
    run = run_directory.start(
        folder,
        config,
        training.label_names,
        preprocessing,
        describe_data(builder, training, validation),
        kept,
    )
    model = experiment.make_model(config, classes=len(training.label_names))
    stages = experiment.make_stages(config, model, steps_per_epoch(training, config))
    return Job(
        run=run,
        training=training,
        validation=validation,
        mesh=mesh,
        stages=stages,
        train_steps=tuple(
            make_train_step(
                model, stage.optimizer, preprocessing, augmentation,
                config.train.label_smoothing, config.seed, mesh, stage.frozen,
            )
            for stage in stages
        ),
        eval_step=make_eval_step(model, preprocessing, mesh),
        model=model,
        weights=weights,
    )  # fmt: skip


def normalization_of(
    begun: Run | None, weights: Initial | None
) -> tuple[str, InputFormat | None] | None:
    """How the first weights saw pixels: as the run that is continued keeps it, or they say."""
    if begun is not None and begun.weights is not None:
        return begun.preprocessing.normalize, begun.preprocessing.input_format
    return weights.normalization if weights else None


def first_state(job: Job) -> TrainState:
    """The state of a run that has not begun: random, or with the first weights in it.

    Raises:
      UserError: the weights do not fit the network.
    """
    size = job.run.preprocessing.size
    state = create_state(job.model, job.stages[0].optimizer, size, job.config.seed)
    if job.weights is not None:
        params, batch_stats, said = load_initial(
            job.weights, state.params, state.batch_stats, job.run.labels
        )
        state = dataclasses.replace(state, params=params, batch_stats=batch_stats)
        print(f"{job.run.folder}: {said}; pixels: {job.run.preprocessing.normalize}")
    return sharding.replicate(state, job.mesh)


def steps_per_epoch(records: Records, config: ConfigDict) -> int:
    """Batches of one pass; what is left over runs on into the next pass."""
    return max(1, len(records) // config.train.batch_size)


def describe_data(builder: Any, training: Records, validation: Records) -> dict[str, Any]:
    """What the run directory keeps of the data, to know it again."""
    return {
        "name": builder.info.full_name,
        "protocol": builder.info.metadata["protocol"],
        "train": training.digest,
        "validation": validation.digest,
    }


def new_memory(job: Job) -> Memory:
    """The memory of a run that has not begun."""
    return Memory(
        stopping=EarlyStopping(patience=job.config.train.patience),
        window=MetricWindow(classes=len(job.run.labels)),
    )


def announce(job: Job, variables: dict[str, Any], step: int, memory: Memory) -> None:
    """Says what is about to happen to the network of `variables`, in a few lines."""
    network = describe_network(job.model, variables, job.run.preprocessing.size)
    title = f"{job.config.model.name} at {job.run.preprocessing.size} pixels: {network}"
    files.write_text(job.run.folder / "model.txt", f"{title}\n{network.table}\n")
    print(
        f"{job.run.folder}: {title}\n"
        f"on {job.run.data['name']}: {len(job.training):,} training and "
        f"{len(job.validation):,} validation pictures, {len(job.run.labels)} classes"
    )
    if memory.finished:
        print(f"training is finished (step {step:,}); the best checkpoint is evaluated again")
    elif step:
        print(f"continuing at step {step:,} of {job.total_steps:,}")
    sys.stdout.flush()  # before the progress, which goes to the other stream


def fit(job: Job, state: TrainState, memory: Memory, checkpoints: Checkpoints) -> None:
    """The training loop; returns when the run is finished and saved."""
    config, first = job.config, int(state.step)
    sampler = BatchSampler(len(job.training), config.train.batch_size, config.seed)
    began, before = time.monotonic(), memory.seconds
    with (
        StopRequest() as stop,
        open_writers(job, first) as writer,
        open_progress(job, first, memory) as progress,
    ):
        step = first
        while not memory.finished:
            state = enter_stage(job, state, step, memory, progress)
            rows = sampler.rows(step)
            batch = {"image": job.training.images[rows], "label": job.training.labels[rows]}
            state, metrics = job.train_steps[memory.stage](
                state, sharding.put_batch(batch, job.mesh)
            )
            memory.window.add(metrics)
            step += 1
            validates = job.validates_after(step)
            if validates or step % config.train.log_steps == 0:
                log_training(job, step, memory, writer, progress)
            if validates:
                validate(job, state, step, memory, writer, progress)
            if validates or stop.signal is not None:
                memory.seconds = before + time.monotonic() - began
                checkpoints.save(state, memory.to_json())
            if stop.signal is not None and not memory.finished:
                checkpoints.wait()
                raise InterruptedRunError(stop.signal)
        checkpoints.wait()


def enter_stage(
    job: Job, state: TrainState, step: int, memory: Memory, progress: Progress
) -> TrainState:
    """Begins the next stage when the present one is over: its optimizer has no memory yet.

    Validations of the stage before do not count against the patience of the next.
    """
    if step < job.stages[memory.stage].end:
        return state
    memory.stage += 1
    memory.stopping = dataclasses.replace(memory.stopping, waited=0)
    progress.message(f"stage {memory.stage + 1} of {len(job.stages)} begins at step {step:,}")
    return sharding.replicate(with_optimizer_of(job.stages[memory.stage], state), job.mesh)


def with_optimizer_of(stage: Stage, state: TrainState) -> TrainState:
    """`state` with a new memory of the stage's optimizer."""
    return dataclasses.replace(state, opt_state=stage.optimizer.init(state.params))


def open_writers(job: Job, step: int) -> MultiWriter:
    """TensorBoard's events and metrics.jsonl, behind what they say of `step` and before."""
    board = TensorBoardWriter(job.run.folder, continues_at=step)
    board.write_hparams(flatten(job.config.to_dict()))
    return MultiWriter([board, JsonLinesWriter(job.run.metrics, step)])


def open_progress(job: Job, step: int, memory: Memory) -> Progress:
    """What people watch."""
    return Progress(
        total_steps=job.total_steps,
        steps_per_epoch=job.steps_per_epoch,
        batch_size=job.config.train.batch_size,
        first_step=step,
        best=memory.stopping.best,
    )


def log_training(
    job: Job, step: int, memory: Memory, writer: MultiWriter, progress: Progress
) -> None:
    """Writes the means since the last line.

    Raises:
      DivergedError: the loss is not finite.
    """
    means = memory.window.close()
    if not math.isfinite(means["loss"]):
        raise DivergedError(
            f"the loss is {means['loss']} at step {step}; the last good checkpoint is kept in "
            f"{job.run.checkpoints}; try a lower --config.optim.learning_rate in another --workdir"
        )
    rate = job.stages[memory.stage].rate(step)
    named = {f"train/{name}": value for name, value in means.items()}
    writer.write_scalars(step, {**named, "learning_rate": rate})
    progress.update(step, means)


def validate(
    job: Job,
    state: TrainState,
    step: int,
    memory: Memory,
    writer: MultiWriter,
    progress: Progress,
) -> None:
    """Evaluates the validation split and decides what is best and whether to stop."""
    evaluation = evaluate_records(
        job.eval_step, state.variables, job.validation, job.config.eval.batch_size, job.mesh
    )
    means = scalars(evaluation.confusion, evaluation.loss_sum)
    memory.stopping = memory.stopping.after(means["accuracy"], step)
    is_last = memory.stage == len(job.stages) - 1
    memory.finished = step == job.total_steps or (is_last and memory.stopping.should_stop)
    writer.write_scalars(step, {f"validation/{name}": value for name, value in means.items()})
    writer.flush()
    progress.evaluated(step, means, is_best=memory.stopping.best_step == step)
    if memory.finished and step < job.total_steps:
        progress.message(
            f"stopped early: no better validation accuracy in {memory.stopping.waited} validations"
        )
