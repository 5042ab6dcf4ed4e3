"""Trains a network as its configuration says, or continues where a run stopped.

`train` returns a finished run; evaluation on test and the report are evaluate's. Here a job
is put together from data, weights and programs; engine.loop runs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from fer_jax import files
from fer_jax import run_dir as run_directory
from fer_jax.data.feed import make_feed
from fer_jax.data.preprocess import InputFormat
from fer_jax.data.records import Split, open_split
from fer_jax.data.sampling import BatchSampler, effective_shares
from fer_jax.data.store import Placement, Room, free_host_bytes, open_store, place
from fer_jax.run_dir import STEPS_PER_DISPATCH, TOTAL_STEPS, Run
from fer_jax.runtime import distributed, sharding
from fer_jax.runtime import xla_options as compiler
from fer_jax.training import build as experiment
from fer_jax.training import schedule as learning
from fer_jax.training.checkpoint import Checkpoints, Restored, TemplateOf
from fer_jax.training.dispatch import ChunkPlan, choose_steps, make_chunk_program
from fer_jax.training.early_stopping import EarlyStopping
from fer_jax.training.evaluation import Evaluator
from fer_jax.training.initial_weights import Initial, find_initial, load_initial
from fer_jax.training.loop import Loop
from fer_jax.training.loop_state import Memory, MetricWindow
from fer_jax.training.model_summary import describe_network
from fer_jax.training.schedule import Pace
from fer_jax.training.session import Job, steps_per_epoch
from fer_jax.training.state import TrainState, create_state, with_weights
from fer_jax.training.step import make_eval_function, make_step_function
from tfds_builders import prepare as build
from tfds_builders.prepared import Prepared


def train(config: ConfigDict, folder: Path, profile_steps: int = 0) -> Run:
    """Trains until the last epoch or until validation stops getting better.

    Args:
      config: the locked configuration.
      folder: the run directory; a run that is there is continued.
      profile_steps: to trace into the run directory, for TensorBoard.

    Returns:
      The finished run; its checkpoint with the best validation accuracy is kept.

    Raises:
      UserError: input that cannot be used.
      InterruptedRunError: on SIGINT or SIGTERM, when everything is saved.
    """
    began = time.monotonic()
    check_config(config)  # before anything is written
    with run_directory.locked(folder) if distributed.is_lead() else contextlib.nullcontext():
        job = make_job(config, folder)
        with Checkpoints(job.run.checkpoints, keep=config.train.keep) as checkpoints:
            restored = checkpoints.restore_latest(preparing(job, checkpoints.steps))
            if restored is None and job.weights is None and job.run.weights is not None:
                job = make_job(config, folder)  # every checkpoint was damaged: from the beginning
            step, state, memory = begin(job, restored)
            announce(job, state.variables, step, memory)
            if not memory.finished:
                with Loop(job, state, step, memory, checkpoints, began, profile_steps) as loop:
                    loop.run()
    return job.run


def check_config(config: ConfigDict) -> None:
    """Refuses what no data could make right.

    Raises:
      UserError: naming the field.
    """
    learning.check_learning(config)
    mesh = sharding.data_mesh(config.train.fsdp)
    for section in ("train", "eval"):
        size = config[section].batch_size
        sharding.check_batch_size(f"config.{section}.batch_size", size, mesh)
    experiment.make_augmentation(config)
    learning.make_stages(config, experiment.make_model(config, classes=2))
    if config.model.pretrained == "none":
        experiment.make_preprocessing(config, None)


@dataclasses.dataclass(frozen=True)
class Opened:
    """What a job begins with: the run, its first weights if it needs any, its data, its pace."""

    run: Run
    weights: Initial | None
    training: Split
    validation: Split
    pace: Pace


def open_job(config: ConfigDict, folder: Path, mesh: Mesh) -> Opened:
    """Finds the first weights, opens the data, and begins or joins the run directory."""
    wanted = experiment.data_arguments(config)
    # A name that is wrong is told before weights are fetched.
    build.get(*(wanted[name] for name in ("name", "variant", "data_dir", "manual_dir", "crop")))
    begun = run_directory.continued(folder, config)
    weights = None if begun else find_initial(config, mesh)
    kept = weights.to_json() if weights else begun.weights if begun else None
    learned = normalization_of(begun, weights)
    experiment.make_preprocessing(config, learned)  # wrong settings are told before a long build
    data = build.prepare(**wanted)
    preprocessing = experiment.make_preprocessing(config, learned, data.metadata["mask"])
    training = open_split(data, "train", preprocessing)
    validation = open_split(data, "validation", preprocessing)
    pace = learning.make_pace(config, steps_per_epoch(training, config))
    run = distributed.lead_first(
        lambda: run_directory.start(
            folder,
            config,
            training.label_names,
            preprocessing,
            describe_data(data, training, validation),
            kept,
            describe_engine(config, pace, mesh),
        ),
        lambda: run_directory.open_run(folder),
    )
    return Opened(run, weights, training, validation, pace)


def make_job(config: ConfigDict, folder: Path) -> Job:
    """Opens the run and its data, and builds the programs."""
    mesh = sharding.data_mesh(config.train.fsdp)
    opened = open_job(config, folder, mesh)
    run, training, validation, pace = opened.run, opened.training, opened.validation, opened.pace
    preprocessing, augmentation = run.preprocessing, experiment.make_augmentation(config)
    model = experiment.make_model(config, classes=len(training.label_names))
    stages = learning.make_stages(config, model, pace.epoch_steps)
    recipe = learning.make_recipe(config, training.labels, len(training.label_names))
    placement = place_pictures(config, (training, validation), preprocessing.size, mesh)
    store = open_store(training, placement.store)
    validation_store = open_store(validation, placement.store)
    feed = make_feed(store, placement, mesh)
    return Job(
        run=run,
        training=training,
        validation=validation,
        validation_store=validation_store,
        feed=feed,
        sampler=BatchSampler(
            training.labels, config.train.batch_size, config.seed, config.train.balance
        ),
        mesh=mesh,
        plan=ChunkPlan(run.engine[STEPS_PER_DISPATCH], tuple(stage.end for stage in stages)),
        stages=stages,
        programs=tuple(
            make_chunk_program(
                make_step_function(
                    model, stage.optimizer, preprocessing, augmentation, recipe, config.seed,
                    stage.frozen, mesh,
                ),
                feed,
                mesh,
                compiler.options(model),
            )
            for stage in stages
        ),
        evaluate=Evaluator(
            make_eval_function(model, preprocessing, config.eval.tta),
            make_feed(validation_store, placement, mesh),
            len(validation),
            config.eval.batch_size,
            mesh,
            compiler.options(model),
        ),
        model=model,
        recipe=recipe,
        weights=opened.weights,
        store=placement.store,
        pace=pace,
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
    size, optimizer = job.run.preprocessing.size, job.stages[0].optimizer
    state = create_state(job.model, optimizer, size, job.config.seed, job.recipe, job.mesh)
    if job.weights is not None:
        params, batch_stats, said = load_initial(
            job.weights, state.params, state.batch_stats, job.run.labels
        )
        state = with_weights(state, *sharding.place((params, batch_stats), job.mesh))
        print(f"{job.run.folder}: {said}; pixels: {job.run.preprocessing.normalize}")
    return state


def place_pictures(
    config: ConfigDict, splits: tuple[Split, ...], size: int, mesh: Mesh
) -> Placement:
    """Decides where the pictures are in training, and says so.

    Raises:
      UserError: an unknown place, or one that is too small.
    """
    nbytes = sum(map(len, splits)) * size * size * 3
    device, host = distributed.least([sharding.free_device_bytes(mesh), free_host_bytes()])
    room = Room(device, mesh.size, host)
    placement = place(config.data.store, nbytes, room)
    print(f"pictures are in store {placement.store!r}: {placement.reason}")
    return placement


def describe_data(data: Prepared, training: Split, validation: Split) -> dict[str, Any]:
    """What the run directory keeps of the data, to know it again and to cut faces as it did."""
    return {
        "name": data.builder.info.full_name,
        "protocol": data.protocol.name,
        "crop": data.metadata.get("crop"),
        "train": training.digest,
        "validation": validation.digest,
    }


def describe_engine(config: ConfigDict, pace: Pace, mesh: Mesh) -> dict[str, Any]:
    """What the bits of the parameters depend on besides configuration and data."""
    device = mesh.devices.flat[0]
    return {
        STEPS_PER_DISPATCH: choose_steps(
            config.train.steps_per_dispatch, pace.eval_steps, device.platform
        ),
        TOTAL_STEPS: pace.total_steps,
        "devices": mesh.size,
        "processes": len({device.process_index for device in mesh.devices.flat}),
        "device_kind": device.device_kind,
    }


def preparing(job: Job, steps: Sequence[int]) -> TemplateOf:
    """The job's `template_of`; the program of the next step is made ready as soon as it is known.

    Args:
      job: that begins or is continued.
      steps: of its checkpoints.
    """
    if not steps:
        job.prepare(0)

    def template_of(memory: dict[str, Any]) -> TrainState:
        if not memory["finished"]:
            job.prepare(steps[-1])
        return job.template_of(memory)

    return template_of


def begin(job: Job, restored: Restored | None) -> tuple[int, TrainState, Memory]:
    """Step, state and memory to start from: of the newest checkpoint, else of a new run."""
    if restored is None:
        return 0, first_state(job), new_memory(job)
    memory = Memory.from_json(restored.memory, len(job.run.labels))
    if restored.step < job.total_steps and not memory.stopping.should_stop:
        memory.finished = False  # it has become longer since
    return restored.step, restored.state, memory


def new_memory(job: Job) -> Memory:
    """The memory of a run that has not begun."""
    return Memory(
        stopping=EarlyStopping(job.pace.patience, job.config.train.monitor),
        window=MetricWindow(classes=len(job.run.labels)),
        plateau=learning.make_plateau(job.config),
    )


def announce(job: Job, variables: dict[str, Any], step: int, memory: Memory) -> None:
    """Says what is about to happen to the network of `variables`, in a few lines."""
    network = describe_network(job.model, variables, job.run.preprocessing.size)
    title = f"{job.config.model.name} at {job.run.preprocessing.size} pixels: {network}"
    if distributed.is_lead():
        files.write_text(job.run.folder / "model.txt", f"{title}\n{network.table}\n")
    print(
        f"{job.run.folder}: {title}\n"
        f"on {job.run.data['name']}: {len(job.training):,} training and "
        f"{len(job.validation):,} validation pictures, {len(job.run.labels)} classes"
    )
    if job.config.train.balance != "none":
        print(f"shares of the classes in training: {describe_balance(job)}")
    if memory.finished:
        print(f"training is finished (step {step:,}); the best checkpoint is evaluated again")
    elif step:
        print(f"continuing at step {step:,} of {job.total_steps:,}")
    sys.stdout.flush()  # before the progress, which goes to the other stream


def describe_balance(job: Job) -> str:
    """How much each class counts, as "neutral 14.3 %", with the share of the records."""
    counts = np.bincount(job.training.labels, minlength=len(job.run.labels))
    shares = effective_shares(counts, job.config.train.balance)
    return ", ".join(
        f"{name} {share:.1%} (of {count:,} records)"
        for name, share, count in zip(job.run.labels, shares, counts, strict=True)
    )
