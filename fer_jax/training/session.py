"""What training needs and does not change: run, data, network, compiled programs.

`make_session` builds it from the settings; `training.loop` trains with it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh

from fer_jax import run_dir
from fer_jax.data.feed import Feed, make_feed
from fer_jax.data.preprocess import InputFormat
from fer_jax.data.provenance import Provenance
from fer_jax.data.records import Split, find_heads, open_split
from fer_jax.data.sampling import BatchSampler, effective_shares
from fer_jax.data.store import (
    FreeMemory,
    Placement,
    Store,
    choose_placement,
    free_host_bytes,
    open_store,
)
from fer_jax.heads import Heads
from fer_jax.run_dir import STEPS_PER_DISPATCH, TOTAL_STEPS, Run
from fer_jax.runtime import distributed, sharding, xla_options
from fer_jax.settings import Settings
from fer_jax.training import precision, teacher
from fer_jax.training.build import data_arguments, make_model, make_preprocessing
from fer_jax.training.dispatch import ChunkPlan, ChunkProgram, choose_steps, make_chunk_program
from fer_jax.training.evaluation import Evaluator, make_eval_function
from fer_jax.training.initial_weights import InitialWeights, RunWeights, find_initial_weights
from fer_jax.training.loop_state import LoopState
from fer_jax.training.recipe import Recipe, make_recipe
from fer_jax.training.stages import Stage, make_stages
from fer_jax.training.state import TrainState, abstract_state
from fer_jax.training.step import make_step_function
from fer_jax.training.step_counts import StepCounts, count_steps
from tfds_builders import prepare
from tfds_builders.prepared import Prepared


@dataclasses.dataclass(frozen=True)
class Session:
    """Everything that does not change during training.

    Attributes:
      run: the run directory.
      training: the training records.
      validation: the records that decide which state is best.
      validation_store: their images.
      feed: brings the training images to the devices.
      sampler: which rows form which batch.
      mesh: of the devices.
      plan: which steps form which chunk.
      stages: of training.
      programs: the jitted chunk of each stage.
      evaluate: evaluates the validation split.
      model: the network.
      recipe: how a step learns.
      initial_weights: None if random, or already restored.
      store: name of the store of the images.
      steps: when things happen.
    """

    run: Run
    training: Split
    validation: Split
    validation_store: Store
    feed: Feed
    sampler: BatchSampler
    mesh: Mesh
    plan: ChunkPlan
    stages: tuple[Stage, ...]
    programs: tuple[ChunkProgram, ...]
    evaluate: Evaluator
    model: nn.Module
    recipe: Recipe
    initial_weights: InitialWeights | None
    store: str
    steps: StepCounts

    @property
    def settings(self) -> Settings:
        """The run's settings."""
        return self.run.settings

    def abstract_state(self, loop_state: dict[str, Any]) -> TrainState:
        """Returns the abstract state of the stage that a stored loop state is in.

        Raises almost anything if the loop state is not readable.
        """
        LoopState.from_json(loop_state, len(self.run.labels), self.run.heads)
        optimizer = self.stages[loop_state["stage"]].optimizer
        return abstract_state(
            self.model, optimizer, self.run.preprocessing.size, self.mesh, self.recipe
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the bits of the parameters depend on besides run and data: versions, devices."""
        engine = self.run.engine
        kept = {name: str(engine[name]) for name in ("devices", "processes", "device_kind")}
        own = {f"plugin {one['module']}": one["version"] for one in self.run.plugins}
        return run_dir.versions() | kept | own

    def validates_after(self, first: int, last: int) -> bool:
        """Whether a validation follows the chunk of steps [first, last)."""
        period = self.steps.eval
        return first // period < last // period or last == self.steps.total

    def logs_after(self, first: int, last: int) -> bool:
        """Whether a log line follows the chunk of steps [first, last)."""
        return first // self.steps.log < last // self.steps.log

    def class_shares(self) -> str:
        """Returns how much each class counts in training, as "neutral 14.3% (of 320 records)"."""
        counts = np.bincount(self.training.labels, minlength=len(self.run.labels))
        shares = effective_shares(counts, self.settings.train.balance)
        return ", ".join(
            f"{name} {share:.1%} (of {count:,} records)"
            for name, share, count in zip(self.run.labels, shares, counts, strict=True)
        )


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A run directory with its data, before programs are built."""

    run: Run
    initial_weights: InitialWeights | None
    training: Split
    validation: Split
    steps: StepCounts


def make_session(settings: Settings, folder: Path) -> Session:
    """Opens the run directory and the data, and builds the programs.

    Raises:
      UserError: settings, data or initial weights that cannot be used, or a run directory that
        belongs to a different run.
    """
    mesh = sharding.data_mesh(settings.train.fsdp)
    settings, dtype_check = precision.resolve(settings, folder)
    opened = _open(settings, folder, mesh, dtype_check)
    run, training, validation = opened.run, opened.training, opened.validation
    model = make_model(settings, run.heads.outputs)
    stages = make_stages(settings, model, opened.steps.epoch)
    recipe = make_recipe(settings, training.labels, run.heads)
    placement = _place_images(settings, (training, validation), run.preprocessing.size, mesh)
    feed = make_feed(open_store(training, placement.store), placement, mesh)
    validation_store = open_store(validation, placement.store)
    options = xla_options.for_model(model)
    programs = tuple(
        make_chunk_program(
            make_step_function(
                model, stage.optimizer, run.preprocessing, settings.augment, recipe,
                settings.seed, stage.frozen, mesh,
            ),
            feed, mesh, options,
        )
        for stage in stages
    )  # fmt: skip
    return Session(
        run=run,
        training=training,
        validation=validation,
        validation_store=validation_store,
        feed=feed,
        sampler=BatchSampler(
            training.labels, settings.train.batch_size, settings.seed, settings.train.balance
        ),
        mesh=mesh,
        plan=ChunkPlan(run.engine[STEPS_PER_DISPATCH], tuple(stage.end for stage in stages)),
        stages=stages,
        programs=programs,
        evaluate=Evaluator(
            make_eval_function(
                model, run.preprocessing, settings.eval.tta,
                heads=run.heads, heads_weight=recipe.heads_weight,
            ),
            make_feed(validation_store, placement, mesh),
            len(validation), settings.eval.batch_size, mesh, options,
        ),
        model=model,
        recipe=recipe,
        initial_weights=opened.initial_weights,
        store=placement.store,
        steps=opened.steps,
    )  # fmt: skip


def _open(settings: Settings, folder: Path, mesh: Mesh, dtype_check: dict[str, Any]) -> _Opened:
    """Finds the initial weights, opens the data, and creates or joins the run directory."""
    wanted = data_arguments(settings)
    # Wrong names are reported before weights are downloaded.
    prepare.get(*(wanted[name] for name in ("name", "variant", "data_dir", "manual_dir", "crop")))
    existing = run_dir.resumable(folder, settings)
    weights = None if existing else find_initial_weights(settings, mesh)
    description = weights.to_json() if weights else existing.weights if existing else None
    pretrained = _pretrained_normalization(existing, weights)
    make_preprocessing(settings, pretrained)  # wrong settings are reported before a long build
    data = prepare.prepare(**wanted)
    preprocessing = make_preprocessing(settings, pretrained, data.metadata["mask"])
    heads = find_heads(data, settings.model.heads)
    training = open_split(data, "train", preprocessing, settings.data.targets, heads)
    taught = teacher.read(folder) if settings.train.teacher else None
    if taught:
        training = taught.applied(training)
    validation = open_split(data, "validation", preprocessing, heads=heads)
    # The remainder of the records runs on into the next epoch.
    steps = count_steps(settings, max(1, len(training) // settings.train.batch_size))
    run = distributed.lead_first(
        lambda: run_dir.start(
            folder,
            settings,
            training.label_names,
            preprocessing,
            _describe_data(data, training, validation, heads)
            | ({"teacher": taught.to_json()} if taught else {}),
            description,
            _describe_engine(settings, steps, mesh) | dtype_check,
            _learned_from(settings, data, weights, existing),
        ),
        lambda: run_dir.open_run(folder),
    )
    return _Opened(run, weights, training, validation, steps)


def _learned_from(
    settings: Settings, data: Prepared, weights: InitialWeights | None, existing: Run | None
) -> Provenance:
    """Provenance of train and validation, and of what initial weights and teachers learned from."""
    if existing and (stored := run_dir.read_learned(existing)):
        return stored
    rows = np.concatenate([data.splits["train"], data.splits["validation"]])
    learned = Provenance.of(data, rows)
    if existing and existing.weights and existing.weights["layout"] == "run":
        learned = learned.joined(None, existing.weights["file"])
    ancestors = [weights.run] if isinstance(weights, RunWeights) else []
    ancestors += [run_dir.open_run(Path(name)) for name in settings.train.teacher]
    for run in {run.folder.resolve(): run for run in ancestors}.values():
        learned = learned.joined(run_dir.read_learned(run), run.name)
    return learned


def _pretrained_normalization(
    existing: Run | None, weights: InitialWeights | None
) -> tuple[str, InputFormat | None] | None:
    """The normalization that the initial weights were trained with; None if they are random."""
    if existing is not None and existing.weights is not None:
        return existing.preprocessing.normalize, existing.preprocessing.input_format
    return weights.normalization if weights else None


def _place_images(
    settings: Settings, splits: tuple[Split, ...], size: int, mesh: Mesh
) -> Placement:
    """Decides where the images are stored during training, and prints it.

    Raises:
      UserError: the requested store is too small.
    """
    nbytes = sum(map(len, splits)) * size * size * 3
    device, host = distributed.min_over_processes(
        [sharding.free_device_bytes(mesh), free_host_bytes()]
    )
    free = FreeMemory(device, mesh.size, host)
    placement = choose_placement(settings.data.store, nbytes, free)
    print(f"image store: {placement.store} ({placement.reason})")
    return placement


def _describe_data(
    data: Prepared, training: Split, validation: Split, heads: Heads
) -> dict[str, Any]:
    """What the run directory stores of its data, to recognize it and to crop faces alike."""
    return {
        "name": data.builder.info.full_name,
        "protocol": data.protocol.name,
        "crop": data.metadata.get("crop"),
        "train": training.digest,
        "validation": validation.digest,
        **({"units": list(heads.units)} if heads.units else {}),
    }


def _describe_engine(settings: Settings, steps: StepCounts, mesh: Mesh) -> dict[str, Any]:
    """What the bits of the parameters depend on besides settings and data."""
    device = mesh.devices.flat[0]
    return {
        STEPS_PER_DISPATCH: choose_steps(
            settings.train.steps_per_dispatch, steps.eval, device.platform
        ),
        TOTAL_STEPS: steps.total,
        "devices": mesh.size,
        "processes": len({device.process_index for device in mesh.devices.flat}),
        "device_kind": device.device_kind,
    }
