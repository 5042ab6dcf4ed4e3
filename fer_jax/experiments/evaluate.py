"""Evaluates a run's best checkpoint on a split and writes the report.

    fer-jax evaluate runs/demo --split test
    fer-jax evaluate runs/kdef --data raf_db

Images are preprocessed with the settings stored in the run directory.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fer_jax import plugins
from fer_jax import run_dir as run_directory
from fer_jax.data.records import ImagesOnDemand, Records, decode_on_demand, open_split
from fer_jax.errors import UserError
from fer_jax.experiments.overlap import count_overlap
from fer_jax.experiments.reframing import open_framed
from fer_jax.inference.network import Network
from fer_jax.inference.overlay import overlay
from fer_jax.labels import label_map
from fer_jax.monitor.tensorboard import TensorBoardWriter
from fer_jax.monitor.timing import read_costs
from fer_jax.monitor.trackers import open_trackers
from fer_jax.monitor.writers import MultiWriter
from fer_jax.report.card import ReportCard
from fer_jax.report.head_answers import HeadAnswers
from fer_jax.report.predictions import Predictions
from fer_jax.report.scores import score
from fer_jax.report.tables import accuracy_line, duration
from fer_jax.report.write import ReportPaths, write_report
from fer_jax.run_dir import Run
from fer_jax.runtime import (
    distributed,
    sharding,
    xla_options,
)
from fer_jax.training import tta
from fer_jax.training.build import data_arguments
from fer_jax.training.dead_units import share_of_dead_units
from fer_jax.training.evaluation import Evaluation, evaluate_records, make_eval_function
from fer_jax.training.restore import Trained, load_trained
from fer_jax.training.state import count_parameters
from tfds_builders import prepare as build
from tfds_builders.prepared import Prepared


@dataclasses.dataclass(frozen=True)
class OtherData:
    """Data to evaluate on instead of the run's own; None means the default of the run or data set.

    Attributes:
      name: data set; None for the run's.
      variant: how faces are cropped, a builder config.
      protocol: how the records are split.
      data_dir: folder of prepared data sets.
      manual_dir: the user's copy of the data set.
      unmapped: "refuse" classes that the network lacks, or "drop" their images.
      faces: "whole" if the stored images are faces framed like the run's, "largest" to detect
        them; None to decide by how both sets are stored.
      relabel: table of decisions about labels; "none" for the set's own labels.
    """

    name: str | None = None
    variant: str | None = None
    protocol: str | None = None
    data_dir: str | None = None
    manual_dir: str | None = None
    unmapped: str = "refuse"
    faces: str | None = None
    relabel: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The arguments of `tfds_builders.prepare.prepare` that differ from the default."""
        fields = ("name", "variant", "protocol", "data_dir", "manual_dir", "relabel")
        found = {field: value for field in fields if (value := getattr(self, field)) is not None}
        return found | ({"relabel": None} if self.relabel == "none" else {})


OWN_DATA = OtherData()

_DEAD_UNITS_IMAGES = 64  # a unit that is zero for so many images is zero for all


@dataclasses.dataclass(frozen=True, eq=False)
class RunEvaluation:
    """Predictions of a run on a split, and everything else that the report needs.

    Attributes:
      run: the run.
      trained: its network, as evaluated.
      records: the images, with the classes of the data.
      predictions: predictions in the classes of the network.
      attributes: further attributes of the images, by name.
      card: data, network and training behind the scores.
      folder: folder of the report.
      is_own: whether the data is what the run was trained on, by the digest of its train split.
    """

    run: Run
    trained: Trained
    records: Records
    predictions: Predictions
    attributes: Mapping[str, Sequence[str] | np.ndarray]
    card: ReportCard
    folder: Path
    is_own: bool


def evaluate(
    run: Run, split: str, other: OtherData = OWN_DATA, abstain: float = 0.0
) -> ReportPaths:
    """Evaluates the best checkpoint on `split` and writes the report.

    The report of the run's own test split goes to `report` in `run.output`, every other one to a
    folder in its `evaluations`.

    Args:
      run: the run.
      split: name of the split.
      other: data to evaluate on instead of the run's own.
      abstain: the lowest top probability of an answer, for its accuracy and coverage.

    Raises:
      UserError: no checkpoint, a damaged one, or data with classes that the run lacks.
    """
    evaluation = run_evaluation(run, split, other)
    card = dataclasses.replace(evaluation.card, abstain=abstain)
    return report_evaluation(dataclasses.replace(evaluation, card=card))


def run_evaluation(
    run: Run, split: str, other: OtherData = OWN_DATA, data: Prepared | None = None
) -> RunEvaluation:
    """Predicts a split with the best checkpoint, in every process of the job; writes nothing.

    `data` is what `other` names, if it is open already.
    """
    data = with_all(open_data(run, other) if data is None else data)
    reframed = open_framed(run, data, split, other.faces)
    records = decode_on_demand(reframed.split)
    if data.builder.name == run.settings.data.name and other.protocol is None:
        check_labels(run, records.label_names)
    labels, rows, notes = map_labels(run, records, other.unmapped)
    records = select(records, rows)
    trained, found = answer_records(run, records)
    is_own = other == OWN_DATA and split == "test"
    attributes = attributes_of(data, split, rows)
    predictions = Predictions(
        ids=records.ids,
        labels=labels,
        probabilities=found.probabilities,
        groups=records.groups,
        label_names=run.labels,
        unit=data.metadata["group"],
        votes=votes_of(run, data, split, rows, other.unmapped),
        heads=None
        if found.extras is None
        else HeadAnswers(run.heads, found.extras, extras_of(run, data, split, rows)),
    )
    return RunEvaluation(
        run=run,
        trained=trained,
        records=records,
        predictions=predictions,
        attributes=attributes,
        card=dataclasses.replace(
            make_card(run, data, split, trained, (*notes, *reframed.notes)),
            overlap=count_overlap(
                run_directory.read_learned(run), data, data.splits[split][rows], run.name
            ),
            dead_units=dead_units_of(run, trained, records, predictions),
            view_share=0.0 if reframed.sources else view_share(attributes),
        ),
        folder=run.output / ("report" if is_own else f"evaluations/{evaluation_name(data, split)}"),
        is_own=other.name is None and is_training_data(run, data),
    )


def report_evaluation(evaluation: RunEvaluation) -> ReportPaths:
    """Writes the report; for the run's own data also to TensorBoard."""
    run, card = evaluation.run, evaluation.card
    paths = write_report(
        evaluation.folder,
        evaluation.predictions,
        evaluation.records.images,
        card,
        run.metrics,
        run.settings.eval.samples,
        evaluation.attributes,
        {"Cost of training": cost_rows(run)},
        functools.partial(explain, evaluation) if should_explain(run) else None,
    )
    if evaluation.is_own:
        write_tensorboard(run, card.split, card.step, paths)
    return paths


def report_training(evaluation: RunEvaluation) -> ReportPaths:
    """As `report_evaluation` at the end of training, and sends the scores to the run's trackers.

    Later evaluations, which may be of somebody else's run, do not.
    """
    paths, run, split = report_evaluation(evaluation), evaluation.run, evaluation.card.split
    named = (run.settings.trackers, run.folder, run.full_name, run.settings.flat())
    with MultiWriter(open_trackers(*named)) as writer:
        writer.write_scalars(evaluation.card.step, _board_scalars(split, paths))
    return paths


def should_explain(run: Run) -> bool:
    """Whether the report shows Grad-CAM; a single process of several cannot run the network."""
    return bool(run.settings.eval.explain) and distributed.is_single_process()


def explain(evaluation: RunEvaluation, rows: Sequence[int]) -> list[np.ndarray]:
    """Returns images of the split with a Grad-CAM heat map, uint8[S, S, 3] each."""
    images = evaluation.records.images[list(rows)]
    _, maps = Network(evaluation.run, evaluation.trained).explain(images)
    return [overlay(image, heat) for image, heat in zip(images, maps, strict=True)]


def print_report(paths: ReportPaths) -> None:
    """Prints the text report; the last lines are the accuracy and the path of the HTML page."""
    print(paths.text.read_text(encoding="utf-8"))
    print(f"figures, tables and predictions: {paths.folder}")
    print(accuracy_line(paths.scores))
    print(paths.page)


def open_data(run: Run, other: OtherData = OWN_DATA) -> Prepared:
    """Opens the run's data, or other data; prepares it first if necessary.

    Raises:
      UserError: the data cannot be prepared.
    """
    arguments = data_arguments(run.settings)
    if other.name is not None and other.name != arguments["name"]:
        # The run's other data arguments describe its own data set.
        arguments = {"name": other.name, "data_dir": arguments["data_dir"]}
    arguments |= other.arguments()
    if other.manual_dir is None:
        _check_prepared(run, arguments)
    return build.prepare(**arguments)


def with_all(data: Prepared) -> Prepared:
    """Returns `data` with one more split, "all": the records of every split."""
    rows = np.concatenate(list(data.splits.values()))
    return dataclasses.replace(data, splits={**data.splits, "all": rows})


def _check_prepared(run: Run, arguments: Mapping[str, Any]) -> None:
    """Checks that a run of somebody else does not make us copy images from where it says.

    Raises:
      UserError: the data is not prepared, and the run's settings name a folder to copy it from.
    """
    source = arguments.get("manual_dir")
    if source is None:
        return
    named = ("name", "variant", "data_dir", "manual_dir", "crop")
    builder = build.get(**{name: arguments.get(name) for name in named})  # type: ignore[arg-type]
    if not build.is_complete(builder):
        raise UserError(
            f"expected prepared data of {arguments['name']} in "
            f"{build.data_root(arguments['data_dir'])}, found none. The run {run.folder} learned "
            f"from {source}; to prepare it from there, add --manual_dir {shlex.quote(source)}"
        )


def is_training_data(run: Run, data: Prepared) -> bool:
    """Whether the run was trained on the train split of `data`; reads no images.

    Another copy of the same set has the set's name, but is other data.
    """
    is_whole = data.metadata.get("pictures") == "whole"
    if run.preprocessing.face_margin is not None and not is_whole:
        return False
    targets = run.settings.data.targets
    train = open_split(data, "train", run.preprocessing, targets, run.heads)
    return train.digest == run.data.get("train")


def evaluation_name(data: Prepared, split: str) -> str:
    """Returns the folder name of an evaluation: data set, variant, protocol and split."""
    parts = (data.builder.name, data.builder.builder_config.name, data.protocol.name, split)
    return "-".join(parts) + "-relabeled" * (split in data.metadata["relabeled"])


def check_labels(run: Run, names: tuple[str, ...]) -> None:
    """Checks that the run's data still has the classes of its head.

    Raises:
      UserError: the classes differ.
    """
    if names != run.labels:
        raise UserError(
            f"expected the {len(run.labels)} classes of the run {run.folder} "
            f"({', '.join(run.labels)}), found {len(names)} in its data ({', '.join(names)}); "
            "prepare the data as before, or train another run"
        )


def map_labels(
    run: Run, records: Records, unmapped: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Maps the records' classes to the network's.

    Returns:
      int32[M] class indices of the network, int64[M] rows with such a class, and notes for the
      report.

    Raises:
      UserError: the network lacks a class and `unmapped` is "refuse", or it has none of them.
    """
    if records.label_names == run.labels:
        return records.labels, np.arange(len(records)), ()
    try:
        numbers = label_map(records.label_names, run.labels, unmapped)
    except UserError as error:
        raise UserError(f"the run {run.folder}: {error} (--unmapped drop)") from None
    mapped = np.array([-1 if number is None else number for number in numbers], np.int32)
    labels = mapped[records.labels]
    rows = np.flatnonzero(labels >= 0)
    classes = [
        f"{name} (dropped)" if number is None else name
        for name, number in zip(records.label_names, numbers, strict=True)
    ]
    missing = [name for name in run.labels if name not in records.label_names]
    notes = [f"classes of the data: {', '.join(classes)}"]
    if missing:
        notes.append(f"classes missing from the data: {', '.join(missing)}")
    return labels[rows], rows, tuple(notes)


def votes_of(
    run: Run, data: Prepared, split: str, rows: np.ndarray, unmapped: str
) -> np.ndarray | None:
    """Returns the votes of `rows` for the network's classes, float32[M, C] whose rows sum to 1.

    None if the data stores no votes. Votes for classes that the network lacks do not count.
    """
    votes = data.votes(split)
    if votes is None:
        return None
    mapped = np.zeros((len(rows), len(run.labels)), np.float32)
    for votes_of_class, number in zip(
        votes[rows].T, label_map(data.label_names, run.labels, unmapped), strict=True
    ):
        if number is not None:
            mapped[:, number] = votes_of_class
    return mapped / mapped.sum(axis=1, keepdims=True)


def extras_of(run: Run, data: Prepared, split: str, rows: np.ndarray) -> np.ndarray:
    """Returns the labels of the network's further heads, float32[M, E]; NaN where unknown.

    Other data may lack a head, or some of the action units.
    """
    found = np.full((len(rows), len(run.heads.names)), np.nan, np.float32)
    units = data.units(split) if run.heads.units else None
    affect = data.affect(split) if run.heads.affect else None
    if units is not None:
        for column, name in enumerate(run.heads.units):
            if name in data.unit_names:
                found[:, column] = units[rows, data.unit_names.index(name)]
    if affect is not None:
        found[:, len(run.heads.units) :] = affect[rows]
    return found


def select(records: Records, rows: np.ndarray) -> Records:
    """Returns the records of `rows`."""
    if len(rows) == len(records):
        return records
    images = records.images
    return dataclasses.replace(
        records,
        images=images.subset(rows) if isinstance(images, ImagesOnDemand) else images[rows],
        labels=records.labels[rows],
        ids=tuple(records.ids[row] for row in rows),
        groups=tuple(records.groups[row] for row in rows),
    )


def attributes_of(
    data: Prepared, split: str, rows: np.ndarray
) -> dict[str, Sequence[str] | np.ndarray]:
    """Returns the further attributes of `rows`, for scores by attribute value."""
    return {name: np.asarray(values)[rows] for name, values in data.attributes(split).items()}


def view_share(attributes: Mapping[str, Sequence[str] | np.ndarray]) -> float:
    """Returns the share of the images that are cropped at the box of their camera view."""
    sources = np.asarray(attributes.get("face_source", ()))
    return float((sources == "view").mean()) if len(sources) else 0.0


def predict_records(
    run: Run, records: Records, is_calibrated: bool = True
) -> tuple[Trained, np.ndarray]:
    """Returns the network with its best checkpoint, and its probabilities float32[N, C].

    Without `is_calibrated`, they are those of temperature 1.
    """
    trained, found = answer_records(run, records, is_calibrated)
    return trained, found.probabilities


def answer_records(
    run: Run, records: Records, is_calibrated: bool = True
) -> tuple[Trained, Evaluation]:
    """As `predict_records`, with the answers of further heads."""
    # With fewer devices than in training, the FSDP group is smaller.
    mesh = sharding.data_mesh(math.gcd(run.settings.train.fsdp, len(sharding.all_devices())))
    # The next size that the devices can split; rows that pad a batch do not count.
    batch_size = -(-run.settings.eval.batch_size // mesh.size) * mesh.size
    network = load_trained(run, mesh)
    if not is_calibrated:
        network = dataclasses.replace(network, temperature=1.0)
    # Only the answers of further heads are used, not what is compared with labels.
    records = dataclasses.replace(records, extras=run.heads.unknown(len(records)))
    evaluation = evaluate_records(
        make_eval_function(
            network.model, run.preprocessing, run.settings.eval.tta, network.temperature, run.heads
        ),
        network.variables,
        records,
        batch_size,
        mesh,
        xla_options.for_model(network.model),
    )
    return network, evaluation


def dead_units_of(
    run: Run, trained: Trained, records: Records, predictions: Predictions
) -> float | None:
    """Returns the share of dead hidden units of a network that has not learned; else None."""
    if not score(predictions).warnings:
        return None
    sample = np.linspace(0, len(records) - 1, min(len(records), _DEAD_UNITS_IMAGES)).astype(int)
    images = run.preprocessing.normalized(jnp.asarray(records.images[sample]))
    return share_of_dead_units(trained.model, trained.variables, images)


def make_card(
    run: Run, data: Prepared, split: str, trained: Trained, notes: tuple[str, ...] = ()
) -> ReportCard:
    """Describes the data, the network and its training for the report."""
    own = [f"parts that are not of fer_jax: {plugins.describe(run.plugins)}"] if run.plugins else []
    return dataclasses.replace(
        data_card(run.name, data, split, (*notes, *own, *environment_notes(trained))),
        model=run.settings.model.name,
        parameters=count_parameters(trained.variables["params"]),
        seed=run.settings.seed,
        step=trained.step,
        train_seconds=trained.seconds,
        weights=describe_weights(run),
        averaged=trained.averaged,
        views=tta.VIEWS[run.settings.eval.tta],
        temperature=trained.temperature,
        training=describe_training(run),
        versions=(trained.environments or (run_directory.read_versions(run),))[-1],
    )


def data_card(name: str, data: Prepared, split: str, notes: tuple[str, ...] = ()) -> ReportCard:
    """Describes the data for the report, and leaves the network to be described."""
    metadata = data.metadata
    return ReportCard(
        run=name,
        dataset=data.builder.info.name,
        config=data.builder.builder_config.name,
        protocol=data.protocol.name,
        split=split,
        model="",
        parameters=0,
        seed=0,
        step=0,
        train_seconds=0.0,
        synthetic=metadata["synthetic"],
        stand_in=metadata["stand_in"],
        derived_labels=metadata["derived_labels"],
        label_rule=metadata.get("label_rule", ""),
        leaks=metadata["leaks"],
        near_duplicates=metadata["near_duplicates"],
        relabeled=metadata["relabeled"].get(split, ""),
        notes=(*notes, *metadata["notes"]),
    )


def describe_training(run: Run) -> str:
    """Describes the training, such as "adam, learning rate 0.001 (cosine), batch size 64"."""
    optim, taught = run.settings.optim, run.data.get("teacher")
    parts = [
        optim.name,
        f"learning rate {optim.learning_rate:g} ({optim.schedule})",
        f"weight decay {optim.weight_decay:g}" if optim.weight_decay else "",
        f"batch size {run.settings.train.batch_size}",
        f"distilled from {' and '.join(taught['runs'])}" if taught else "",
    ]
    return ", ".join(filter(None, parts))


def environment_notes(trained: Trained) -> tuple[str, ...]:
    """Returns a note if invocations of training had other versions, cores or devices."""
    if len(trained.environments) < 2:
        return ()
    changes = run_directory.describe_changes(trained.environments)
    line = f"training was resumed with {changes}: the bits may differ from an unbroken run's"
    return (line,)


def cost_rows(run: Run) -> list[tuple[str, str]]:
    """Returns the cost of training as a table; empty if it was not measured."""
    costs = read_costs(run.folder)
    if not costs:
        return []
    last = costs[-1]
    rows = [
        ("invocations", str(len(costs))),
        ("total time", duration(sum(one["seconds"] for one in costs))),
        ("time to the first step", _measured(last["seconds_to_first_step"], "{:.1f} s")),
        ("throughput", _measured(last["images_per_second"], "{:,.0f} images/s")),
        ("waiting for data", _measured(last["waiting_share"], "{:.1%} of the time")),
        ("peak host memory", f"{last['host_bytes'] / 2**20:,.0f} MiB"),
    ]
    if last["device_bytes"] is not None:
        rows.append(("peak device memory", f"{last['device_bytes'] / 2**20:,.0f} MiB"))
    return rows


def _measured(value: float | None, template: str) -> str:
    return "not measured" if value is None else template.format(value)


def describe_weights(run: Run) -> str:
    """Describes the initial weights; hashes are abbreviated here and complete in run.json."""
    if run.weights is None:
        return "random initialization"
    stored = run.weights
    if stored["layout"] == "run":
        return f"the run {stored['file']} on {stored['source']} (sha256 {stored['sha256']})"
    return (
        f"{stored['file']} (sha256 {stored['sha256'][:16]}), ported from {stored['source']} "
        f"({stored['layout']}, sha256 {stored['source_sha256'][:16]})"
    )


def _board_scalars(split: str, paths: ReportPaths) -> dict[str, float]:
    scores = paths.scores
    return {
        f"{split}/accuracy": scores.accuracy,
        f"{split}/balanced_accuracy": scores.balanced_accuracy,
    }


def write_tensorboard(run: Run, split: str, step: int, paths: ReportPaths) -> None:
    """Writes the scores and plots of the report to the run's TensorBoard events."""
    images = {f"{split}/{name}": plot[None] for name, plot in paths.plots.items()}
    writer = TensorBoardWriter(run.output)
    writer.write_scalars(step, _board_scalars(split, paths))
    writer.write_images(step, images)
    writer.close()
