"""Evaluates a run's best checkpoint on a split and writes the report.

    fer-jax evaluate runs/demo --split test
    fer-jax evaluate runs/kdef --data raf_db

What the network sees is prepared as the run directory says; nothing is retyped here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from fer_jax.data.pixel_cache import load_cached
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records, open_split
from fer_jax.errors import UserError
from fer_jax.inference.network import Network
from fer_jax.inference.overlay import overlay
from fer_jax.labels import label_map
from fer_jax.monitor.timing import read_costs
from fer_jax.monitor.tensorboard import TensorBoardWriter
from fer_jax.report.card import ReportCard
from fer_jax.report.predictions import Predictions
from fer_jax.report.tables import duration
from fer_jax.report.write import ReportPaths, write_report
from fer_jax.run_dir import Run
from fer_jax.runtime import (
    distributed,
    sharding,
)
from fer_jax.runtime import (
    xla_options,
)
from fer_jax.training import build as experiment
from fer_jax.training import tta
from fer_jax.training.checkpoint import Restored
from fer_jax.training.evaluation import evaluate_records
from fer_jax.training.restore import Trained, load_trained
from fer_jax.training.state import count_parameters
from fer_jax.training.step import make_eval_function
from tfds_builders import prepare as build
from tfds_builders.prepared import Prepared


@dataclasses.dataclass(frozen=True)
class OtherData:
    """Data that a run is evaluated on instead of its own; None is the run's or the set's default.

    Attributes:
      name: of the set; None is the run's.
      variant: how its faces are cut.
      protocol: who is in which split.
      data_dir: where prepared sets live.
      manual_dir: where the user's copy of the set lies.
      unmapped: "refuse" classes that the network does not know, or "drop" their pictures.
    """

    name: str | None = None
    variant: str | None = None
    protocol: str | None = None
    data_dir: str | None = None
    manual_dir: str | None = None
    unmapped: str = "refuse"


OWN_DATA = OtherData()


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """What a network said of a split; everything that the report needs.

    Attributes:
      run: the run.
      trained: its network, as it was evaluated.
      records: the pictures, their classes those of the data.
      predictions: the classes are the network's.
      attributes: what else the set knows of the pictures.
      card: the circumstances.
      folder: of the report.
      is_own: the data is the run's own set.
    """

    run: Run
    trained: Trained
    records: Records
    predictions: Predictions
    attributes: Mapping[str, Sequence[str] | np.ndarray]
    card: ReportCard
    folder: Path
    is_own: bool


def evaluate(run: Run, split: str, other: OtherData = OWN_DATA) -> ReportPaths:
    """Evaluates the best checkpoint on `split` and writes the report.

    The run's own test split is reported in `run.report`, everything else in a folder of its
    own in `run.evaluations`.

    Raises:
      UserError: no checkpoint, a damaged one, or data with classes that the run has not.
    """
    return report(examine(run, split, other))


def examine(run: Run, split: str, other: OtherData = OWN_DATA) -> Evaluated:
    """Runs the best checkpoint over a split, in every process of the job; writes nothing."""
    data = open_data(run, other)
    preprocessing = framing_for(run, data)
    records = load_cached(open_split(data, split, preprocessing))
    if data.builder.name == run.config.data.name and other.protocol is None:
        check_labels(run, records.label_names)
    labels, kept, said = map_labels(run, records, other.unmapped)
    records = select(records, kept)
    trained, probabilities = predict_records(run, records)
    is_own = other == OWN_DATA and split == "test"
    return Evaluated(
        run=run,
        trained=trained,
        records=records,
        predictions=Predictions(
            ids=records.ids,
            labels=labels,
            probabilities=probabilities,
            groups=records.groups,
            label_names=run.labels,
        ),
        attributes=attributes_of(data, split, kept),
        card=make_card(run, data, split, trained.best, said),
        folder=run.report if is_own else run.evaluations / evaluation_name(data, split),
        is_own=other.name is None,
    )


def report(found: Evaluated) -> ReportPaths:
    """Writes what was found, also for TensorBoard where the data is the run's own."""
    run, card = found.run, found.card
    paths = write_report(
        found.folder,
        found.predictions,
        found.records.images,
        card,
        run.metrics,
        run.config.eval.samples,
        found.attributes,
        {"Time and memory of training": cost_rows(run)},
        functools.partial(explain, found) if explains(run) else None,
    )
    if found.is_own:
        write_tensorboard(run, card.split, card.step, paths)
    return paths


def explains(run: Run) -> bool:
    """Whether the report says why; one process of several cannot read a checkpoint alone."""
    return bool(run.config.eval.explain) and distributed.is_single_process()


def explain(found: Evaluated, rows: Sequence[int]) -> list[np.ndarray]:
    """Pictures of the split coloured by Grad-CAM of the predicted class, uint8[S, S, 3]."""
    images = found.records.images[list(rows)]
    _, maps = Network(found.run, found.trained).explain(images)
    return [overlay(image, heat) for image, heat in zip(images, maps, strict=True)]


def show(paths: ReportPaths) -> None:
    """Prints the report and where its parts lie, the page last."""
    print(paths.text.read_text())
    for path in sorted(set(paths.folder.iterdir()) - {paths.page}):
        print(path)
    print(paths.page)


def open_data(run: Run, other: OtherData = OWN_DATA) -> Prepared:
    """The run's data, or other data, prepared first where that was not done.

    Raises:
      UserError: it cannot be had.
    """
    arguments = experiment.data_arguments(run.config)
    if other.name is not None and other.name != arguments["name"]:
        # Only where prepared sets live is common to two sets.
        arguments = {"name": other.name, "data_dir": arguments["data_dir"]}
    for field in ("variant", "protocol", "data_dir", "manual_dir"):
        if (value := getattr(other, field)) is not None:
            arguments[field] = value
    return build.prepare(**arguments)


def evaluation_name(data: Prepared, split: str) -> str:
    """Folder name of an evaluation: the set, its variant where that is another, the protocol."""
    return "-".join(
        (data.builder.name, data.builder.builder_config.name, data.protocol.name, split)
    )


def framing_for(run: Run, data: Prepared) -> Preprocessing:
    """The run's preprocessing, for data that is stored cut to the face or whole.

    A run on whole pictures keeps its margin; one on face crops cuts whole pictures with the
    margin of its own crops; crops are taken as they are.
    """
    margin = None
    if data.metadata.get("pictures") == "whole":
        crop = run.data.get("crop") or {}
        margin = run.preprocessing.face_margin
        margin = crop.get("margin") if margin is None else margin
    if run.config.data.name == data.builder.name:
        margin = run.preprocessing.face_margin
    return dataclasses.replace(run.preprocessing, face_margin=margin)


def check_labels(run: Run, names: tuple[str, ...]) -> None:
    """Refuses a run's own data where its classes are not those of the run's head any more.

    Raises:
      UserError: naming both.
    """
    if names != run.labels:
        raise UserError(
            f"the run {run.folder} tells {len(run.labels)} classes apart "
            f"({', '.join(run.labels)}); its data has {len(names)} now ({', '.join(names)}); "
            "prepare the data as it was, or train another run"
        )


def map_labels(
    run: Run, records: Records, unmapped: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The records' classes as the network's.

    Returns:
      int32[M] class indices of the network, int64[M] rows that have one, and what a reader
      must know of it.

    Raises:
      UserError: a class that the network does not know, where that is refused, or none that
        it knows.
    """
    if records.label_names == run.labels:
        return records.labels, np.arange(len(records)), ()
    try:
        numbers = label_map(records.label_names, run.labels, unmapped)
    except UserError as error:
        raise UserError(f"the run {run.folder}: {error} (--unmapped drop)") from None
    mapped = np.array([-1 if number is None else number for number in numbers], np.int32)
    labels = mapped[records.labels]
    kept = np.flatnonzero(labels >= 0)
    pairs = [
        f"{name} is left out" if number is None else name
        for name, number in zip(records.label_names, numbers, strict=True)
    ]
    absent = [name for name in run.labels if name not in records.label_names]
    said = [f"classes of the data: {', '.join(pairs)}"]
    if absent:
        said.append(f"classes that only the network has: {', '.join(absent)}")
    return labels[kept], kept, tuple(said)


def select(records: Records, rows: np.ndarray) -> Records:
    """Some rows of records."""
    if len(rows) == len(records):
        return records
    return dataclasses.replace(
        records,
        images=records.images[rows],
        labels=records.labels[rows],
        ids=tuple(records.ids[row] for row in rows),
        groups=tuple(records.groups[row] for row in rows),
    )


def attributes_of(
    data: Prepared, split: str, rows: np.ndarray
) -> dict[str, Sequence[str] | np.ndarray]:
    """What else the set knows of the pictures, for scores of parts."""
    return {name: np.asarray(values)[rows] for name, values in data.attributes(split).items()}


def predict_records(run: Run, records: Records) -> tuple[Trained, np.ndarray]:
    """The network with its best checkpoint, and its probabilities float32[N, C] for the records."""
    # On fewer devices than the run was trained on, fewer can share.
    mesh = sharding.data_mesh(math.gcd(run.config.train.fsdp, jax.device_count()))
    sharding.check_batch_size("config.eval.batch_size", run.config.eval.batch_size, mesh)
    network = load_trained(run, mesh)
    evaluation = evaluate_records(
        make_eval_function(network.model, run.preprocessing, run.config.eval.tta),
        network.best.state.inference_variables,
        records,
        run.config.eval.batch_size,
        mesh,
        xla_options.for_model(network.model),
    )
    return network, evaluation.probabilities


def make_card(
    run: Run, data: Prepared, split: str, best: Restored, said: tuple[str, ...] = ()
) -> ReportCard:
    """The circumstances that the report states."""
    metadata = data.metadata
    return ReportCard(
        run=run.name,
        dataset=data.builder.info.name,
        config=data.builder.builder_config.name,
        protocol=data.protocol.name,
        split=split,
        model=run.config.model.name,
        parameters=count_parameters(best.state.params),
        seed=run.config.seed,
        step=best.step,
        train_seconds=best.memory["seconds"],
        weights=describe_weights(run),
        averaged=best.state.ema is not None,
        views=tta.VIEWS[run.config.eval.tta],
        synthetic=metadata["synthetic"],
        stand_in=metadata["stand_in"],
        derived_labels=metadata["derived_labels"],
        label_rule=metadata.get("label_rule", ""),
        leaks=metadata["leaks"],
        near_duplicates=metadata["near_duplicates"],
        notes=(*said, *metadata["notes"]),
    )


def cost_rows(run: Run) -> list[tuple[str, str]]:
    """What the run's sittings cost, for the report; empty for a run that did not say."""
    sittings = read_costs(run.folder)
    if not sittings:
        return []
    last = sittings[-1]
    rows = [
        ("sittings", f"{len(sittings)}, {duration(sum(one['seconds'] for one in sittings))}"),
        ("time to the first step", _figure(last["seconds_to_first_step"], "{:.1f} s")),
        ("steady speed", _figure(last["images_per_second"], "{:,.0f} images/s")),
        ("waiting for data", _figure(last["waiting_share"], "{:.1%} of the time")),
        ("most memory of the process", f"{last['host_bytes'] / 2**20:,.0f} MiB"),
    ]
    if last["device_bytes"] is not None:
        rows.append(("most memory of a device", f"{last['device_bytes'] / 2**20:,.0f} MiB"))
    return rows


def _figure(value: float | None, form: str) -> str:
    return "not measured" if value is None else form.format(value)


def describe_weights(run: Run) -> str:
    """Where the network's first weights came from; hashes as they begin, whole in run.json."""
    if run.weights is None:
        return "random initialisation"
    stored = run.weights
    if stored["layout"] == "run":
        return f"the run {stored['file']} on {stored['source']} (sha256 {stored['sha256']})"
    return (
        f"{stored['file']} (sha256 {stored['sha256'][:16]}), ported from {stored['source']} "
        f"({stored['layout']}, sha256 {stored['source_sha256'][:16]})"
    )


def write_tensorboard(run: Run, split: str, step: int, paths: ReportPaths) -> None:
    """Puts the scores and the report's pictures beside the curves."""
    scores = paths.scores
    numbers = {"accuracy": scores.accuracy, "balanced_accuracy": scores.balanced_accuracy}
    pictures = {f"{split}/{name}": picture[None] for name, picture in paths.drawings.items()}
    writer = TensorBoardWriter(run.folder)
    writer.write_scalars(step, {f"{split}/{name}": value for name, value in numbers.items()})
    writer.write_images(step, pictures)
    writer.close()
