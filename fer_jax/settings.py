"""A run's settings: the config as frozen dataclasses, validated once.

`fer_jax.config` reads a config file and hands over `Settings`; nothing after it reads a raw
config. What each field means is documented in configs/defaults.py. Checks that need the network
or the data are made where those are built.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fer_jax import buckets, durations, files
from fer_jax.durations import EPOCHS, EXAMPLES, PER_CENT, STEPS
from fer_jax.errors import UserError
from fer_jax.heads import AFFECT, HEADS, UNITS

BALANCES = ("none", "oversample", "sqrt", "class_weights")
AUTO_DTYPE = "auto"  # see training.precision
DTYPES = (AUTO_DTYPE, "float32", "bfloat16")
HEAD_MONITORS = {"units_f1": UNITS, "ccc": AFFECT}
"""Scores of further heads, and the head that each needs."""

MONITORS = ("accuracy", "balanced_accuracy", "macro_f1", "loss", *HEAD_MONITORS)
POOLINGS = ("average", "max")
SCHEDULES = ("cosine", "step", "plateau", "constant")
STORES = ("auto", "device", "host", "stream")
TARGETS = ("majority", "votes")
TRACKERS = ("wandb", "mlflow")
TTA_VIEWS = ("none", "flip", "tencrop")

WITHOUT_WEIGHT_DECAY = "adam"
MIN_CHECKPOINTS = 2  # the newest, and one to fall back on if it is damaged

SHARE, VALIDATIONS = "share", "validations"
"""Units of plain numbers that durations cannot be written in."""

_ABSOLUTE = (EPOCHS, STEPS, EXAMPLES)
DURATIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "train.epochs": (EPOCHS, _ABSOLUTE),
    "train.head_epochs": (EPOCHS, durations.UNITS),
    "train.eval_epochs": (EPOCHS, durations.UNITS),
    "train.log_steps": (STEPS, durations.UNITS),
    "train.patience": (VALIDATIONS, durations.UNITS),
    "optim.warmup": (SHARE, durations.UNITS),
    "optim.decay_every": (EPOCHS, durations.UNITS),
}
"""Fields that hold a duration: the unit of a plain number, and the units that are accepted."""

Amount = int | float | str
"""A plain number, or one with a unit such as "30ep"."""


@dataclasses.dataclass(frozen=True)
class CropSettings:
    """`config.data.crop`: overrides of the variant's face crop; None keeps the variant's."""

    margin: float | None
    min_share: float | None
    detector: str | None
    fallback: str | None
    longest_side: int | None


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """`config.data`."""

    name: str
    config: str | None
    protocol: str | None
    protocol_seed: int
    dir: str | None
    manual_dir: str | None
    relabel: str | None
    train_images: int | None
    crop: CropSettings
    size: int
    face_margin: float | None
    mask: str
    normalize: str
    targets: str
    store: str


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """`config.model`."""

    name: str
    widths: tuple[int, ...] | None
    dropout: float | None
    head_widths: tuple[int, ...] | None
    pooling: str | None
    batch_norm: bool | None
    small_stem: bool | None
    remat: bool | None
    dtype: str
    pretrained: str
    freeze: str
    heads: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """`config.augment`: random changes of training images. 0 disables a change.

    Attributes:
      flip: probability of a left-right flip.
      rotation: maximum rotation in either direction, degrees.
      zoom: maximum relative change of scale; enlarging crops.
      shift: maximum translation along each axis, as a share of the side.
      blur: maximum standard deviation of the Gaussian blur, as a share of the side.
      noise: maximum standard deviation of the Gaussian noise, as a share of the range 0..255.
      brightness: maximum relative change of all values.
      contrast: maximum relative change of the distance to the image's mean.
      saturation: maximum relative change of the distance to gray.
      tint: maximum relative change of each channel's values.
      erase: probability of random erasing (filled with the image's mean).
      mixup: probability of blending with another image of the batch.
      mixup_alpha: parameter of mixup's Beta distribution.
      cutmix: probability of pasting a rectangle of another image of the batch.
      cutmix_alpha: parameter of CutMix's Beta distribution.
      extra: names of registered augmentations, in order.
    """

    flip: float = 0.5
    rotation: float = 10.0
    zoom: float = 0.1
    shift: float = 0.06
    blur: float = 0.008
    noise: float = 0.02
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    tint: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    mixup_alpha: float = 0.2
    cutmix: float = 0.0
    cutmix_alpha: float = 1.0
    extra: tuple[str, ...] = ()

    @property
    def is_geometric(self) -> bool:
        """Whether pixels move other than by the flip."""
        return bool(self.rotation or self.zoom or self.shift)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others of the batch."""
        return bool(self.mixup or self.cutmix)


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """`config.train`."""

    batch_size: int
    accumulate: int
    fsdp: int
    epochs: Amount
    head_epochs: Amount
    eval_epochs: Amount
    patience: Amount
    monitor: str
    balance: str
    label_smoothing: float
    focal_gamma: float
    label_noise: float
    heads_weight: float
    teacher: tuple[str, ...]
    log_steps: Amount
    steps_per_dispatch: int | None
    keep: int
    pictures: int


@dataclasses.dataclass(frozen=True)
class OptimSettings:
    """`config.optim`."""

    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    clip_norm: float
    sam_rho: float
    ema_decay: float
    schedule: str
    decay_factor: float
    decay_every: Amount
    plateau_patience: int
    finetune_rate: float
    warmup: Amount


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """`config.eval`."""

    batch_size: int
    tta: str
    calibrate: bool
    samples: int
    explain: bool


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run. Sections and fields are named as in the config."""

    seed: int
    plugins: tuple[str, ...]
    trackers: tuple[str, ...]
    data: DataSettings
    model: ModelSettings
    augment: Augmentation
    train: TrainSettings
    optim: OptimSettings
    eval: EvalSettings

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Settings:
        """Makes settings of a nested dict with all fields of configs/defaults.py.

        Raises:
          UserError: a value is out of range or not among the known ones; names the field.
        """
        data, model = dict(config["data"]), dict(config["model"])
        data["crop"] = CropSettings(**data["crop"])
        augment = {**config["augment"], "extra": tuple(config["augment"]["extra"])}
        train = {**config["train"], "teacher": tuple(config["train"]["teacher"])}
        for field in ("widths", "head_widths", "heads"):
            if model[field] is not None:  # JSON has lists
                model[field] = tuple(model[field])
        settings = cls(
            seed=config["seed"],
            plugins=tuple(config["plugins"]),
            trackers=tuple(config["trackers"]),
            data=DataSettings(**data),
            model=ModelSettings(**model),
            augment=Augmentation(**augment),
            train=TrainSettings(**train),
            optim=OptimSettings(**config["optim"]),
            eval=EvalSettings(**config["eval"]),
        )
        _check(settings)
        return settings

    def to_dict(self) -> dict[str, Any]:
        """As `from_dict` takes it."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """{"train.epochs": 30, ...}."""
        return flatten(self.to_dict())

    def duration(self, field: str) -> durations.Duration:
        """The duration in a field of `DURATIONS`, such as "train.epochs"."""
        section, name = field.split(".")
        plain, units = DURATIONS[field]
        return durations.parse(field, getattr(getattr(self, section), name), plain, units)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.epochs": 30, ...} of nested mappings."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _check(settings: Settings) -> None:
    _check_names(settings)
    _check_numbers(settings)
    _check_model(settings.model)
    _check_augmentation(settings.augment)
    _check_optim(settings.optim)
    for path in (settings.data.dir, settings.data.manual_dir):
        buckets.path_or_url(path or "")
    for path in (settings.model.pretrained, *settings.train.teacher):
        files.local_path(path or "")
    for field in DURATIONS:
        settings.duration(field)
    for field in ("train.epochs", "train.eval_epochs", "train.log_steps"):
        if not (duration := settings.duration(field)).amount:
            raise UserError(f"expected {field} above 0, found {duration.amount:g}")
    train = settings.train
    head, total = settings.duration("train.head_epochs"), settings.duration("train.epochs")
    # Other units are compared when the number of steps of an epoch is known.
    limit = {total.unit: total.amount, PER_CENT: 100.0}.get(head.unit)
    if limit is not None and head.amount >= limit:
        raise UserError(
            f"expected train.head_epochs below train.epochs={train.epochs}, "
            f"found {train.head_epochs}"
        )
    if train.batch_size % train.accumulate:
        raise UserError(
            f"expected train.accumulate to divide train.batch_size={train.batch_size}, "
            f"found {train.accumulate}"
        )


def _check_names(settings: Settings) -> None:
    for field, found, known in (
        ("data.targets", settings.data.targets, TARGETS),
        ("data.store", settings.data.store, STORES),
        ("model.dtype", settings.model.dtype, DTYPES),
        ("train.balance", settings.train.balance, BALANCES),
        ("train.monitor", settings.train.monitor, MONITORS),
        ("optim.schedule", settings.optim.schedule, SCHEDULES),
        ("eval.tta", settings.eval.tta, TTA_VIEWS),
        *(("trackers", name, TRACKERS) for name in settings.trackers),
        *(("model.heads", name, HEADS) for name in settings.model.heads),
    ):
        if found not in known:
            raise UserError(f"expected one of {', '.join(known)} for {field}, found {found!r}")
    needed = HEAD_MONITORS.get(settings.train.monitor)
    if needed and needed not in settings.model.heads:
        raise UserError(
            f"expected {needed} among model.heads for train.monitor={settings.train.monitor}, "
            f"found {', '.join(settings.model.heads) or 'none'}; add --config.model.heads={needed}"
        )


def _check_numbers(settings: Settings) -> None:
    train, optim, steps = settings.train, settings.optim, settings.train.steps_per_dispatch
    _check_share("train.label_smoothing", train.label_smoothing)
    # At one half, the labels of two classes would say nothing.
    if not 0 <= train.label_noise < 0.5:
        raise UserError(f"expected train.label_noise in [0, 0.5), found {train.label_noise}")
    for field, found in (("focal_gamma", train.focal_gamma), ("teacher", train.teacher)):
        if train.label_noise and found:
            raise UserError(
                f"expected train.label_noise or train.{field}, found both: "
                f"{train.label_noise:g} and {found}; set one of them"
            )
    for field, found, least in (
        ("train.focal_gamma", train.focal_gamma, 0),
        ("train.heads_weight", train.heads_weight, 0),
        ("train.accumulate", train.accumulate, 1),
        ("train.keep", train.keep, MIN_CHECKPOINTS),
        ("train.pictures", train.pictures, 0),
        ("train.steps_per_dispatch", 1 if steps is None else steps, 1),
        ("optim.sam_rho", optim.sam_rho, 0),
        ("optim.weight_decay", optim.weight_decay, 0),
        ("optim.clip_norm", optim.clip_norm, 0),
        ("optim.plateau_patience", optim.plateau_patience, 1),
        ("eval.samples", settings.eval.samples, 0),
    ):
        if found < least:
            raise UserError(f"expected {field} of at least {least}, found {found}")


def _check_model(model: ModelSettings) -> None:
    if model.dropout is not None:
        _check_share("model.dropout", model.dropout)
    if model.pooling not in (None, *POOLINGS):
        raise UserError(
            f"expected one of {', '.join(POOLINGS)} for model.pooling, found {model.pooling!r}"
        )
    for field, widths in (("widths", model.widths), ("head_widths", model.head_widths)):
        if not all(isinstance(width, int) and width > 0 for width in widths or ()):
            raise UserError(
                f"expected positive integers for model.{field}, found {widths}; "
                f"try --config.model.{field}=512,512"
            )
    if model.widths == ():
        raise UserError("expected one or more integers for model.widths, found none")


def _check_augmentation(augment: Augmentation) -> None:
    for field in dataclasses.fields(augment):
        value = getattr(augment, field.name)
        if field.name.endswith("_alpha"):
            if not value > 0:
                raise UserError(f"expected augment.{field.name} above 0, found {value}")
        elif field.name not in ("rotation", "extra"):
            _check_share(f"augment.{field.name}", value)
    if not 0 <= augment.rotation <= 180:
        raise UserError(f"expected augment.rotation in [0, 180], found {augment.rotation}")
    if augment.mixup + augment.cutmix > 1:
        raise UserError(
            "expected augment.mixup and augment.cutmix to sum to at most 1, found "
            f"{augment.mixup} and {augment.cutmix}: an image is mixed in one way"
        )


def _check_optim(optim: OptimSettings) -> None:
    for field in ("learning_rate", "finetune_rate"):
        if not getattr(optim, field) > 0:
            raise UserError(f"expected optim.{field} above 0, found {getattr(optim, field)}")
    for field in ("momentum", "ema_decay"):
        if not 0 <= getattr(optim, field) < 1:
            raise UserError(f"expected optim.{field} in [0, 1), found {getattr(optim, field)}")
    if not 0 < optim.decay_factor < 1:
        raise UserError(f"expected optim.decay_factor between 0 and 1, found {optim.decay_factor}")
    if optim.weight_decay and optim.name == WITHOUT_WEIGHT_DECAY:
        raise UserError(
            f"optim.weight_decay needs optim.name=adamw or another optimizer, found {optim.name}"
        )
    warmup = durations.parse("optim.warmup", optim.warmup, SHARE)
    if warmup.unit == SHARE and warmup.amount >= 1:
        raise UserError(
            "expected optim.warmup to be a share of all steps in [0, 1), or to have a unit "
            f'such as "500st", found {optim.warmup}'
        )


def _check_share(field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"expected {field} in [0, 1], found {value}")
