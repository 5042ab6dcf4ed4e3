"""The run directory: written once at the start of a run and read by every later verb.

    config.json      every field of the config
    run.json         classes, preprocessing, data, versions: what prediction needs; and a digest
    learned.npz      provenance of the records that the network learned from
    teacher.npz      targets of a student, see training.teacher
    model.txt        the network's arrays, for people
    checkpoints/     written by training.checkpoint
    weights.safetensors   instead of checkpoints in a packed run, see training.packed;
                     model.safetensors in a published one, see published
    trackers.json    ids of the run at Weights & Biases and MLflow, see monitor.trackers
    calibration.json      the temperature that validation chose, see experiments.calibrate
    metrics.jsonl    one line per logged step, next to TensorBoard's events
    summary.csv      one row per validation
    timing.json      the cost of each invocation
    diverged.json    where NaN or Inf occurred, if it did
    report/          evaluation on the test split
    evaluations/     evaluations on other splits and other data

A directory may be moved; it does not contain its own path. Runs in `SHIPPED` come with the package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fer_jax
from fer_jax import buckets, files, plugins
from fer_jax import config as configuration
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.provenance import Provenance
from fer_jax.errors import UserError
from fer_jax.heads import AFFECT, Heads
from fer_jax.printable import printable
from fer_jax.registry import FIELDS
from fer_jax.settings import AUTO_DTYPE, Settings, flatten
from fer_jax.working_copy import working_copy

FORMAT = 4
"""Incremented when an older fer_jax could not read the directory."""

CHANGEABLE = frozenset(
    {
        "data.dir",
        "data.manual_dir",
        "data.relabel",  # the path; the labels are compared by the digests of the splits
        "data.store",
        "eval.batch_size",
        "eval.calibrate",
        "eval.explain",
        "eval.samples",
        "model.pretrained",  # the path; the content is compared by its digest
        "plugins",  # the paths; the versions are compared
        "train.fsdp",
        "train.keep",
        "train.log_steps",
        "train.pictures",
        "trackers",
    }
)
"""Fields that may change on resume: none affects the parameters."""

LONGER = "train.epochs"
"""The field that may make a run longer; the schedule then follows its longer curve."""

DTYPE = "model.dtype"
"""The field whose value "auto" a run replaces by the dtype that it chose."""

LEARNED = "learned.npz"
WEIGHTS = "weights.safetensors"
PUBLISHED_WEIGHTS = "model.safetensors"
"""The same file in a published run: the name that the Hugging Face Hub knows."""

CALIBRATION = "calibration.json"

SHIPPED = Path(__file__).with_name("shipped")
"""Folder of the runs that come with the package. Their names stand for their folders."""

DEFAULT_RUN = SHIPPED / "ferplus"
"""The run of commands that are given none."""

STEPS_PER_DISPATCH, TOTAL_STEPS = "steps_per_dispatch", "total_steps"

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "opencv-python-headless",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """An opened run directory.

    Attributes:
      folder: its path.
      settings: of the run.
      labels: classes in index order.
      preprocessing: from a face to network input.
      data: name, protocol and face crop of the data set, the digest of each split that training
        uses, and the names of the action units if the network has that head.
      weights: description of the initial weights, as `Weights.to_json`; None if random.
      engine: what else the bits of the parameters depend on: steps per program, devices.
      learned: SHA-256 of learned.npz; "" in runs of older versions, which have none.
      packed: SHA-256 of the weights' file in a packed run; "" in a run with checkpoints.
      plugins: parts that are not of this project, as `plugins.used_by` returns them.
      identity: SHA-256 of settings, classes, data and initial weights as the run was started.
        Checkpoints repeat it. "" in runs of older versions.
    """

    folder: Path
    settings: Settings
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    data: dict[str, Any]
    weights: dict[str, Any] | None = None
    engine: dict[str, Any] = dataclasses.field(default_factory=dict)
    learned: str = ""
    packed: str = ""
    plugins: list[dict[str, str]] = dataclasses.field(default_factory=list)
    identity: str = ""

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.folder.absolute().name

    @property
    def full_name(self) -> str:
        """Name of the directory; of a cross-validation's run with its folder and fold."""
        parts = self.folder.absolute().parts
        first = len(parts) - 1
        while first > 1 and re.fullmatch(r"(fold|seed)_\d+", parts[first]):
            first -= 1
        return "/".join(parts[first:])

    @property
    def heads(self) -> Heads:
        """What the network's outputs are."""
        has_affect = AFFECT in self.settings.model.heads
        return Heads(len(self.labels), tuple(self.data.get("units", ())), has_affect)

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        """File of the logged metrics."""
        return self.folder / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """Directory of the report on test."""
        return self.folder / "report"

    @property
    def is_shipped(self) -> bool:
        """Whether the run came with the package."""
        return self.folder.absolute().parent == SHIPPED.absolute()

    @property
    def output(self) -> Path:
        """Directory that evaluations write into: the run's; the package's folder is not changed."""
        return Path("runs") / self.name if self.is_shipped else self.folder


def has_settings(folder: Path, settings: Settings) -> bool:
    """Whether the run in `folder` has these settings, but for those that may change on resume."""
    stored, requested = open_run(folder).settings.flat(), settings.flat()
    fields = (stored.keys() | requested.keys()) - CHANGEABLE
    if requested[DTYPE] == AUTO_DTYPE:
        fields.remove(DTYPE)
    return all(stored.get(field) == requested.get(field) for field in fields)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Creates the run directory if missing and locks it for this process.

    The kernel releases the lock when the process ends, however it ends.

    Raises:
      UserError: it cannot be created or written, or another process holds the lock.
    """
    try:
        files.local_path(folder).mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f"expected to write the run directory {folder}, found: {error.strerror}; "
            "choose another with --workdir"
        ) from error
    try:
        if not files.lock(handle, folder / ".lock", wait=False):
            raise UserError(
                f"another process is training in {folder}; wait for it or choose another --workdir"
            )
        yield
    finally:
        os.close(handle)


def start(
    folder: Path,
    settings: Settings,
    labels: tuple[str, ...],
    preprocessing: Preprocessing,
    data: dict[str, Any],
    weights: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    learned: Provenance | None = None,
    report: Callable[[str], None] = print,
) -> Run:
    """Starts a run in `folder`, or joins the one in it if it is the same.

    Joining keeps `engine["steps_per_dispatch"]` if the config leaves it open. Differences that
    are allowed are reported.

    Args:
      folder: the run directory.
      settings: as in `Run`, like the next five.
      labels: classes.
      preprocessing: of the run.
      data: description of the data.
      weights: description of the initial weights.
      engine: of the run.
      learned: provenance of the records that the run and its ancestors learn from.
      report: gets a line per allowed difference.

    Raises:
      UserError: the run in it has different settings, classes, data or initial weights; the
        message lists the differences.
    """
    content = b"" if learned is None else learned.to_bytes()
    digest = hashlib.sha256(content).hexdigest() if content else ""
    run = Run(folder, settings, labels, preprocessing, data, weights, engine or {}, digest)
    run = dataclasses.replace(run, plugins=plugins.used_by(settings), identity=_identity(run))
    if (folder / "run.json").exists():
        old = open_run(folder)
        _check_same(old, run)
        # A newer version may have more settings, which would make another identity.
        run = dataclasses.replace(run, identity=old.identity or run.identity)
        if settings.train.steps_per_dispatch is None and STEPS_PER_DISPATCH in old.engine:
            joined = {STEPS_PER_DISPATCH: old.engine[STEPS_PER_DISPATCH]}
            run = dataclasses.replace(run, engine={**run.engine, **joined})
        for line in _changes(old, run):
            report(f"{folder}: {line}")
    if content:
        files.write_bytes(folder / LEARNED, content)
    write(run, versions())
    return run


def write(run: Run, made_with: Mapping[str, str]) -> None:
    """Writes config.json and run.json; `made_with`: as `versions` returned it for the training."""
    description = {
        "format": FORMAT,
        "labels": list(run.labels),
        "preprocessing": run.preprocessing.to_json(),
        "data": run.data,
        "weights": run.weights,
        "engine": run.engine,
        "learned": run.learned,
        **({"packed": run.packed} if run.packed else {}),
        **({"plugins": run.plugins} if run.plugins else {}),
        "identity": run.identity,
        "versions": dict(made_with),
    }
    config = run.settings.to_dict()
    description["digest"] = _digest(description, config)
    files.write_text(run.folder / "config.json", _dump(config))
    # run.json last: without it, the directory is not a run yet.
    files.write_text(run.folder / "run.json", _dump(description))


def find_run(name: str | Path) -> Path:
    """Returns the folder of a shipped run, if `name` is one's and no file's; else `name`.

    The URL of a bucket becomes a copy that may be read.

    Raises:
      UserError: another URL, or one that cannot be read.
    """
    path = buckets.path_or_url(name) if isinstance(name, str) else files.local_path(name)
    if isinstance(path, str):
        _check_run_at(path)
        return buckets.read_only(path)
    shipped = SHIPPED / path
    is_shipped = len(path.parts) == 1 and (shipped / "run.json").is_file()
    return shipped if is_shipped and not path.exists() else path


def _check_run_at(url: str) -> None:
    """Checks that there is a run before everything that is there is copied.

    Raises:
      UserError: there is none.
    """
    if not buckets.exists(f"{url}/run.json"):
        raise UserError(
            f"expected a run directory with a run.json at {url}, found none; check the URL"
        )


@contextlib.contextmanager
def opened(place: Path | str) -> Iterator[Run]:
    """Opens a run whose directory is written into, also one in a bucket.

    Raises:
      UserError: as `open_run`, or another process writes the directory in the bucket.
    """
    if isinstance(place, str):
        _check_run_at(place)
    with working_copy(place) as folder:
        yield open_run(folder)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory."""
    return (folder / "run.json").is_file()


def has_parts(folder: Path) -> bool:
    """Whether a folder has files of a run directory, which may be incomplete."""
    return any((folder / name).exists() for name in ("config.json", "checkpoints", LEARNED))


def open_run(folder: Path | str) -> Run:
    """Reads a run directory, or the shipped run of this name, and verifies its digest.

    Of the URL of a bucket it reads a copy.

    Raises:
      UserError: there is no run, a changed one, one that this version cannot read, or one that
        needs a plugin that the user has not named.
    """
    folder = find_run(folder)
    if not is_run(folder):
        raise UserError(
            f"expected a run directory with a run.json, found none at {folder}; train one with: "
            f"fer-jax train --config configs/demo.py, or use the shipped run {DEFAULT_RUN.name!r}"
        )
    try:
        description, config = (_read_object(folder / name) for name in ("run.json", "config.json"))
        if description["format"] > FORMAT:
            raise UserError(
                f"the run {folder} was written by a newer fer_jax (format "
                f"{description['format']}, known {FORMAT}); upgrade fer_jax"
            )
        if "digest" not in description:
            _warn_without_digest(folder)
        elif description["digest"] != _digest(description, config):
            raise ValueError("its content is not what was written: the digest differs")
        if description["format"] < 3:
            _name_protocol(config["data"])
        _check_types(description, config)
        own_parts = description.get("plugins", [])
        # A packed run is not resumed: of its parts only the network is needed.
        kinds = ("network",) if "packed" in description else tuple(FIELDS)
        plugins.check([one for one in own_parts if one["kind"] in kinds], folder)
        return Run(
            folder=folder,
            settings=configuration.from_stored(config),
            labels=tuple(description["labels"]),
            preprocessing=Preprocessing.from_json(description["preprocessing"]),
            data=description["data"],
            weights=description.get("weights"),  # format 1 has none
            engine=description.get("engine", {}),
            learned=description.get("learned", ""),
            packed=description.get("packed", ""),
            plugins=own_parts,
            identity=description.get("identity", ""),
        )
    except UserError:
        raise
    except Exception as error:  # a changed file of an older version raises almost anything
        raise UserError(
            f"the run {folder} cannot be read ({type(error).__name__}: {error}); "
            "restore its run.json and config.json or use another --workdir"
        ) from error


def _read_object(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"expected an object in {path.name}, found {type(content).__name__}")
    return content


@functools.cache  # once for each folder: several parts of a command open a run
def _warn_without_digest(folder: Path) -> None:
    print(
        f"note: the run {folder} is of an older fer_jax, which stored no digest: changes of its "
        "run.json and config.json cannot be noticed",
        file=sys.stderr,
    )


def read_learned(run: Run) -> Provenance | None:
    """Returns what the run and its ancestors learned from; None if not recorded, or damaged."""
    try:
        content = (run.folder / LEARNED).read_bytes()
        if hashlib.sha256(content).hexdigest() != run.learned:
            return None
        return Provenance.from_bytes(content)
    except (OSError, ValueError):
        return None


def read_temperature(run: Run, step: int) -> float:
    """Returns the temperature of the checkpoint at `step`; 1 if none was fitted for it.

    Raises:
      UserError: calibration.json cannot be read.
    """
    path = run.folder / CALIBRATION
    try:
        stored = json.loads(path.read_text())
        return float(stored["temperature"]) if stored["step"] == step else 1.0
    except FileNotFoundError:
        return 1.0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); restore it, or delete it: "
            "probabilities are then not calibrated"
        ) from error


def _name_protocol(data: dict[str, Any]) -> None:
    """Until format 2 `data.config` named a protocol, except for the synthetic faces."""
    if data["name"] != "synthetic_faces":
        data["protocol"], data["config"] = data["config"], None


def resumable(folder: Path, settings: Settings) -> Run | None:
    """Returns the run in `folder` if it has a checkpoint, which replaces its initial weights.

    None too if the settings name other initial weights: those have to be compared.

    Raises:
      UserError: this version cannot read it, or there are checkpoints without a run.json.
    """
    checkpoints = folder / "checkpoints"
    saved = checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir())
    if not (folder / "run.json").exists():
        if saved:
            raise UserError(
                f"expected {folder / 'run.json'}, which says what the checkpoints beside it are, "
                "found none; restore run.json and config.json, or choose another --workdir"
            )
        return None
    run = open_run(folder)
    same = run.settings.model.pretrained == settings.model.pretrained
    return run if saved and same else None


def report_warnings(run: Run) -> tuple[str, ...]:
    """Returns the banners of the run's report, such as STAND-IN; () if it has none.

    Every display of the run's predictions shows them too.
    """
    try:
        stored = json.loads((run.report / "report.json").read_text(encoding="utf-8"))
        return tuple(str(line) for line in stored["warnings"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def introduce(run: Run) -> str:
    """Returns a line that says which run predicts; of a shipped one, also where its limits are."""
    line = printable(f"model: {run.name}, trained on {run.data['name']}")
    return f"{line}; its limits: {run.folder / 'README.md'}" if run.is_shipped else line


def versions() -> dict[str, str]:
    """Returns the versions and machine properties that bit-identical results depend on."""
    found = {package: _version(package) for package in _PACKAGES}
    return {
        "fer_jax": fer_jax.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()),
        **found,
    }


def read_versions(run: Run) -> dict[str, str]:
    """Returns the versions that a run was started with, as `versions` does; {} if unknown."""
    stored = _read_object(run.folder / "run.json").get("versions")
    if not isinstance(stored, dict):
        return {}
    return {str(name): str(version) for name, version in stored.items()}


def describe_changes(environments: Sequence[Mapping[str, str]]) -> str:
    """Says what differs between environments, as "cores 2, then 4; jax 0.10.2, then 0.11.0"."""
    names = sorted({name for environment in environments for name in environment})
    found = {name: [one.get(name, "unknown") for one in environments] for name in names}
    return "; ".join(
        f"{name} {', then '.join(value for value, _ in itertools.groupby(values))}"
        for name, values in found.items()
        if len(set(values)) > 1
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _digest(description: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """SHA-256 of run.json without its digest, and of config.json.

    Without the settings that may change, so that a kill between the writes of the two files
    leaves a directory that still opens.
    """
    content = {name: value for name, value in description.items() if name != "digest"}
    return _sha256([content, _fixed(config)])


def _identity(run: Run) -> str:
    weights = (run.weights or {}).get("sha256")
    fixed = _fixed(run.settings.to_dict())
    return _sha256([fixed, run.labels, run.preprocessing.to_json(), run.data, weights])


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that may not change."""
    flat = flatten(config)
    return {name: flat[name] for name in flat.keys() - CHANGEABLE - {LONGER}}


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_types(description: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Checks what later code relies on, where a digest does not.

    Raises:
      ValueError: names the entry.
    """
    labels, data = description["labels"], description["data"]
    weights, engine = description.get("weights"), description.get("engine", {})
    named = ("file", "sha256", "source", "layout")
    folders = [config["data"].get(name) for name in ("dir", "manual_dir", "relabel")]
    teachers = data.get("teacher", {"runs": []})["runs"]
    for name, is_valid in (
        ("a path of data", all(isinstance(one, str | None) for one in folders)),
        ("labels", isinstance(labels, list) and all(isinstance(one, str) for one in labels)),
        ("data", isinstance(data, dict) and isinstance(data["name"], str)),
        ("data.crop", isinstance(data.get("crop") or {}, dict)),
        ("data.units", all(isinstance(one, str) for one in data.get("units", ()))),
        ("data.teacher", all(isinstance(one, str) for one in teachers)),
        ("weights", weights is None or all(isinstance(weights[one], str) for one in named)),
        ("plugins", plugins.are_valid(description.get("plugins", []))),
        ("engine", isinstance(engine, dict) and isinstance(engine.get(TOTAL_STEPS, 0), int)),
    ):
        if not is_valid:
            raise ValueError(f"an unexpected value of {name}")


def _check_same(old: Run, new: Run) -> None:
    before, after = old.settings.flat(), new.settings.flat()
    if new.engine.get(TOTAL_STEPS, 0) >= old.engine.get(TOTAL_STEPS, math.inf):
        after[LONGER] = before[LONGER]
    differences = [
        *_differences(before, after),
        *_differences({"labels": list(old.labels)}, {"labels": list(new.labels)}),
        *_differences(
            flatten(old.data, "data of the run: "),
            flatten(new.data, "data of the run: "),
        ),
        # By content: path and name of the file may change.
        *_differences(
            {"sha256 of the weights": (old.weights or {}).get("sha256")},
            {"sha256 of the weights": (new.weights or {}).get("sha256")},
        ),
    ]
    if differences:
        raise UserError(
            f"the run in {old.folder} was started with different settings; resume it with the "
            "same settings, or choose another --workdir:\n  " + "\n  ".join(differences)
        )


def _changes(old: Run, new: Run) -> list[str]:
    """Describes the allowed differences."""
    before, after = old.settings.flat(), new.settings.flat()
    lines = [
        f"{field} was {before.get(field)!r} and is {after[field]!r} from now on"
        for field in sorted(CHANGEABLE | {LONGER})
        if field in before and before[field] != after[field]
    ]
    if before[LONGER] != after[LONGER] and new.settings.optim.schedule != "constant":
        lines.append(
            f"the learning rate follows the {new.settings.optim.schedule} schedule of the longer "
            "run from now on: the result differs from a run that was this long from the start"
        )
    return lines


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    fields = sorted((old.keys() | new.keys()) - CHANGEABLE)
    return [
        f"{field}: {old.get(field)!r} then, {new.get(field)!r} now"
        for field in fields
        if old.get(field) != new.get(field)
    ]


def _dump(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
