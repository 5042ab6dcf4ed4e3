"""Prepares a data set: reads the user's archive or folder, writes array_record files.

    fer-jax prepare kdef --manual_dir ~/Downloads

`prepare` is the same for programs. Records are written to a temporary folder that is renamed when
complete; of an interrupted preparation, the next one uses the crops (`journal`). The layouts of
the sets are defined in their own folders.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fer_jax
from fer_jax import buckets, errors, files, working_copy
from fer_jax.executor import Executor
from fer_jax.faces.crop import FaceCrop
from fer_jax.monitor import console
from fer_jax.registry import REGISTRIES
from tfds_builders import index, journal, prepared, protocols, sources, summary
from tfds_builders.prepared import Prepared

NAMES: tuple[str, ...] = (
    "kdef", "rafd", "raf_db", "sfew", "amfed_plus", "fer2013", "ferplus", "ck_plus", "jaffe",
    "affectnet", "expw", "image_folder", "synthetic_faces",
)  # fmt: skip
"""The project's data sets."""

BUILDERS = REGISTRIES["data_set"].with_built_in(
    {name: f"tfds_builders.{name}.{name}_dataset_builder" for name in NAMES}
)
"""The module with each set's `Builder`, which imports TFDS; of a user's set the class."""

FILE_FORMAT = "array_record"  # random access without TensorFlow

CROP_FLAGS: dict[str, str] = {
    "margin": "margin",
    "min_share": "min_share",
    "detector": "detector",
    "fallback": "fallback",
    "size": "longest_side",
}
"""Command-line flag to field of `FaceCrop`."""


def get(
    name: str,
    variant: str | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    crop: Mapping[str, Any] | None = None,
) -> Any:
    """Creates the builder of a data set, prepared or not.

    Args:
      name: one of `NAMES`.
      variant: how faces are cropped, a TFDS config of the set; None for the default.
      data_dir: folder of prepared sets, also in a bucket; None for `TFDS_DATA_DIR` or
        `~/tensorflow_datasets`.
      manual_dir: the user's copy, also in a bucket; image_folder names its variants by it.
      crop: fields of `FaceCrop` that override the variant's; None values are ignored. The result
        is a variant with a name such as "face-1f2e3d4c".

    Returns:
      A `StoredBuilder`; its `info` describes the prepared data if present.

    Raises:
      errors.UserError: Unknown set or variant, invalid crop settings, or an unreadable
        description of prepared data.
    """
    builder_class = _builder_class(name)
    config = _config(builder_class, variant, data_dir, manual_dir, crop)
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from tensorflow_datasets.core import dataset_info

    _fetch(data_root(data_dir) / name / config.name / str(builder_class.VERSION))
    try:
        builder = builder_class(
            data_dir=str(data_root(data_dir)), config=config, file_format=FILE_FORMAT
        )
        builder.info.metadata.keys()  # loads the metadata; `in` and `get` would not
    except (dataset_info.DatasetInfoFileError, json_format.ParseError, ValueError) as error:
        raise errors.UserError(
            f"expected prepared data of {name} in {data_root(data_dir) / name}, found an "
            f"unreadable description ({error}). Delete that folder and prepare the set again."
        ) from error
    return builder


def prepare(
    name: str,
    variant: str | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    *,
    protocol: str | None = None,
    seed: int = 0,
    crop: Mapping[str, Any] | None = None,
    rebuild: bool = False,
    relabel: str | None = None,
    train_images: int | None = None,
    executor: Executor | None = None,
) -> Prepared:
    """Returns the records of a data set and their splits, preparing the set if necessary.

    A preparation reports its progress on stderr and prints a summary on stdout.

    Args:
      name: one of `NAMES`.
      variant, data_dir, crop: as in `get`.
      manual_dir: the user's copy of the set: its archive, or a folder that contains it; None for
        `<data_dir>/downloads/manual`, as in TFDS.
      protocol: how the set is split: a protocol of the set, or a fold such as "fold3of10"; None
        for the default.
      seed: random seed of the protocol.
      rebuild: whether to replace prepared data.
      relabel: a table of decisions about labels, which are applied to the opened set; the prepared
        data stay as they are.
      train_images: size of the train split, a sample with each class's share; None for all of it.
      executor: who finds and crops the faces; one thread per core by default.

    Raises:
      errors.UserError: Unknown set, variant or protocol; a source that is missing, incomplete or
        unreadable; a data_dir that is not writable; data prepared with other settings or from
        another source; a protocol that leaves a split without some class; a table of decisions
        that is not of this set; too few images for `train_images`.
    """
    table = files.local_path(relabel).expanduser() if relabel else None
    find = functools.partial(get, name, variant, data_dir, manual_dir, crop)
    builder = find()
    chosen = _protocol(builder, protocol)
    source_dir = _manual_dir(builder, manual_dir)
    is_ready = not rebuild and is_complete(builder)
    if not is_ready:
        opened = _check_source(builder, source_dir, chosen, seed)  # before anything is written
        _check_writable(Path(builder.data_dir_root))
        builder, is_ready = _write_once(builder, find, source_dir, opened, rebuild, executor)
    if is_ready:
        _check_unchanged(builder, source_dir if manual_dir else None)
    result = prepared.open_prepared(
        builder, chosen, seed, is_new=not is_ready, relabel=table, train_images=train_images
    )
    if result.is_new:
        print(summary.describe(result), flush=True)
    return result


def _write_once(
    builder: Any,
    find: Callable[[], Any],
    source_dir: Path,
    opened: Any,
    rebuild: bool,
    executor: Executor | None,
) -> tuple[Any, bool]:
    """Writes the records unless another process does so meanwhile.

    Returns:
      The builder that finds them, and whether they were there already.
    """
    with _lock(builder), _owned(builder):
        exists = Path(builder.data_dir).exists()
        if exists and not rebuild:  # damaged, or written by another process meanwhile
            builder = find()
            if is_complete(builder):
                return builder, True
        _remove_leftovers(builder)
        if exists or builder.info.splits:  # without the description of the old data
            builder = find()
        _write_records(builder, source_dir, opened, executor)
    return builder, False


def data_root(data_dir: str | None = None) -> Path:
    """Folder of prepared sets: the argument, else `TFDS_DATA_DIR`, else TFDS's default.

    Of one in a bucket it is the folder of the copies of its sets.

    Raises:
      errors.UserError: that is in a home, and this user has none, as in a container; or it is a
        URL that is not of a bucket.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    try:
        place = buckets.path_or_url(chosen)
        if isinstance(place, str):
            return buckets.copy_of(place, buckets.DATA)
        return place.expanduser().absolute()
    except RuntimeError:
        raise errors.UserError(
            "expected a home for prepared data, found none; set HOME, or name a folder "
            "(--data_dir, config.data.dir or TFDS_DATA_DIR)"
        ) from None


def _builder_class(name: str) -> Any:
    found = BUILDERS.find(name)
    builder = importlib.import_module(found).Builder if isinstance(found, str) else found
    if builder.name != name:
        raise errors.UserError(
            f"expected a builder whose TFDS name is that of its data set, {name}, found "
            f"{builder.name}; rename the class {builder.__name__}, or register that name"
        )
    if builder.pkg_dir_path is None and not isinstance(found, str):
        # For README.md and the like, which TFDS expects in a package.
        builder.pkg_dir_path = Path(
            getattr(sys.modules[builder.__module__], "__file__", ".")
        ).parent
    _silence_tfds()
    return builder


def _config(
    builder_class: Any,
    variant: str | None,
    data_dir: str | None,
    manual_dir: str | None,
    crop: Mapping[str, Any] | None,
) -> Any:
    """The TFDS config: one of the set's, or one with other crop settings."""
    configs = builder_class.builder_configs
    changes = {field: value for field, value in (crop or {}).items() if value is not None}
    if variant is not None and variant not in configs:
        stored = _stored_config(builder_class, variant, data_dir)
        if stored is not None:
            return _with_crop(stored, changes)
        hint = _did_you_mean(variant, configs)
        if variant in builder_class.PROTOCOLS:
            hint = f" {variant!r} is a protocol: --protocol {variant} (config.data.protocol)."
        raise errors.UserError(
            f"expected a variant of {builder_class.name} ({', '.join(sorted(configs))}), "
            f"found {variant!r}.{hint}"
        )
    config = configs[variant] if variant else builder_class.BUILDER_CONFIGS[0]
    if not hasattr(config, "crop"):
        if changes:
            raise errors.UserError(
                f"expected no crop settings for {builder_class.name}, whose images are stored "
                f"whole, found {', '.join(changes)}. Crop its faces with config.data.face_margin."
            )
        return config
    config = _with_crop(config, changes)
    return builder_class.variant_for(buckets.local_path(manual_dir) if manual_dir else None, config)


def _stored_config(builder_class: Any, variant: str, data_dir: str | None) -> Any:
    """The config of prepared data with other crop settings, by its name; None if not prepared."""
    place = data_root(data_dir) / builder_class.name / variant / str(builder_class.VERSION)
    _fetch(place)
    try:
        metadata = json.loads((place / "metadata.json").read_text(encoding="utf-8"))
        return type(builder_class.BUILDER_CONFIGS[0])(
            name=variant,
            description=metadata["described"],
            crop=FaceCrop.from_json(metadata["crop"]),
            label_names=tuple(metadata["label_names"]),
            base=metadata["base"],
            lossless=metadata["lossless"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _with_crop(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of the variant with some crop settings changed; `config` if none changes."""
    try:
        crop = dataclasses.replace(config.crop, **changes)
    except ValueError as error:
        raise errors.UserError(f"{error} (config.data.crop, or the flag of that name)") from None
    if crop == config.crop:
        return config
    described = f"{config.description} With {', '.join(f'{k} {v}' for k, v in changes.items())}."
    return dataclasses.replace(
        config,
        name=f"{config.name}-{crop.digest()}",
        description=described,
        crop=crop,
        base=config.name,
    )


def _protocol(builder: Any, name: str | None) -> protocols.Protocol:
    chosen: protocols.Protocol | None = builder.protocol(name)
    if chosen is None:
        protocol_names = ", ".join([*builder.PROTOCOLS, "fold1of10 ..."])
        raise errors.UserError(
            f"expected a protocol of {builder.name} ({protocol_names}), found {name!r}."
            f"{_did_you_mean(str(name), builder.PROTOCOLS)}"
        )
    return chosen


def _did_you_mean(name: str, candidates: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.4)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def _silence_tfds() -> None:
    """Turns off TFDS's progress bars and log messages."""
    import tensorflow_datasets as tfds
    from absl import logging as absl_logging

    tfds.disable_progress_bar()
    if absl_logging.get_verbosity() <= absl_logging.WARNING:
        absl_logging.set_verbosity(absl_logging.ERROR)


def _manual_dir(builder: Any, manual_dir: str | None) -> Path:
    if manual_dir:
        return buckets.local_path(manual_dir).absolute()
    return Path(builder.data_dir_root) / "downloads" / "manual"


def _check_source(builder: Any, source_dir: Path, chosen: protocols.Protocol, seed: int) -> Any:
    """Opens the user's copy: names and labels only; None for sets that ship with the code.

    Takes seconds, and already refuses a copy that lacks a class or has too few people.
    """
    if not hasattr(builder, "open"):
        return None
    opened = builder.open(source_dir)
    builder.builder_config.crop.make_detector()
    rows = [record.row for record in opened.records]
    prepared.assign(rows, chosen, builder.label_names, seed, builder.name)
    return opened


def is_complete(builder: Any) -> bool:
    """Whether the prepared data has all records of its description.

    An interrupted preparation is never renamed; this detects record files that are missing or
    truncated after a power cut or an incomplete copy.
    """
    import tensorflow_datasets as tfds

    if not builder.is_prepared():
        return False
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    try:
        for split, info in builder.info.splits.items():
            records = builder.as_data_source(split, deserialize_method=raw)
            if len(records) != info.num_examples or not records[len(records) - 1]:
                return False
    except Exception:  # noqa: BLE001 - array_record raises errors of many types
        return False
    stored = builder.info.metadata.get("index_sha256", "")
    return bool(builder.info.splits) and index.is_unchanged(Path(builder.data_dir), stored)


def _check_unchanged(builder: Any, source_dir: Path | None) -> None:
    """Raises a `UserError` if this code or this source would give other records."""
    stored = builder.info.metadata.get("stamp", {})
    current = json.loads(json.dumps(builder.stamp()))  # tuples become lists, as in the file
    changes = [
        f"{field}: {stored.get(field)!r} then, {current.get(field)!r} now"
        for field in sorted(set(stored) | set(current))
        if stored.get(field) != current.get(field)
    ]
    changes += _source_changes(builder, source_dir)
    if changes:
        manual = f" --manual_dir {shlex.quote(str(source_dir))}" if source_dir else ""
        raise errors.UserError(
            f"expected {builder.name} in {builder.data_dir} to be prepared from the same source "
            f"with the same settings; found {'; '.join(changes)}. Choose another data_dir, or "
            f"replace it: fer-jax prepare {builder.name}{_flags(builder)} "
            f"--data_dir {shlex.quote(str(builder.data_dir_root))}{manual} --rebuild"
        )


def _flags(builder: Any) -> str:
    """The command-line flags that select the builder's variant."""
    config = builder.builder_config
    base = getattr(config, "base", "")
    if not base:
        return f" --config {config.name}"
    crop, base_crop = config.crop, builder.builder_configs[base].crop
    changed = [
        f" --{flag} {shlex.quote(str(getattr(crop, field)))}"
        for flag, field in CROP_FLAGS.items()
        if getattr(crop, field) != getattr(base_crop, field)
    ]
    return f" --config {base}{''.join(changed)}"


def _source_changes(builder: Any, source_dir: Path | None) -> list[str]:
    """Compares the copy in `source_dir` with the prepared one.

    A copy that is gone from where it was prepared is a note on stderr, and no change.

    Raises:
      errors.UserError: `source_dir` is another folder, without a copy of the set.
    """
    if source_dir is None or not hasattr(builder, "open"):
        return []
    metadata = builder.info.metadata
    before = metadata.get("source")
    if sources.fingerprint(source_dir) == metadata.get("fingerprint"):
        return []
    try:
        opened = builder.open(source_dir)
    except errors.UserError as error:
        if source_dir.exists() and buckets.origin(source_dir) != before:
            raise errors.UserError(
                f"{error}\n{builder.name} was prepared from {before} into {builder.data_dir}. To "
                "use that, leave --manual_dir (config.data.manual_dir) out."
            ) from error
        console.print_stderr(
            f"no copy of {builder.name} in {source_dir} any more: using what was prepared from "
            f"{before}"
        )
        return []
    if builder.source_digest(opened) == metadata.get("source_digest"):
        return []
    now = buckets.origin(opened.source.path)
    place = f"{before} has changed" if now == before else f"{before} then, {now} now"
    return [f"source: {place} ({_compare(builder, opened)})"]


def _compare(builder: Any, opened: Any) -> str:
    """Describes the new and the missing images of a copy."""
    from tfds_builders import manual  # imports TFDS

    dropped: Mapping[str, list[str]] = builder.info.metadata.get("dropped", {})
    before = {entry.id for entry in index.read(Path(builder.data_dir))}
    before.update(*dropped.values())
    now = {one.id for one in (*opened.records, *opened.drops)}
    parts = [
        f"{len(ids):,} {word}: {manual.some(sorted(ids))}"
        for word, ids in (("new", now - before), ("gone", before - now))
        if ids
    ]
    return "; ".join(parts) or "the same names with other sizes, labels or subjects"


def _check_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise errors.UserError(
            f"expected to write prepared data in {root}, found: {error.strerror}. "
            "Choose another folder (--data_dir, config.data.dir or TFDS_DATA_DIR)."
        ) from error


@contextlib.contextmanager
def _lock(builder: Any) -> Iterator[None]:
    """Holds the lock of a set and config, so that one process prepares and the others wait.

    The kernel releases the lock when the process ends.
    """
    place = Path(builder.data_dir).parent
    place.mkdir(parents=True, exist_ok=True)
    with open(place / ".lock", "w", encoding="utf-8") as lock:
        if not files.lock(lock.fileno(), place / ".lock", wait=False):
            console.print_stderr(f"waiting for another process to prepare {builder.info.full_name}")
            files.lock(lock.fileno(), place / ".lock", wait=True)
        yield


def _fetch(place: Path) -> None:
    """Makes the copy of prepared data equal to those in a bucket, if it is a copy."""
    url = buckets.origin(place)
    if buckets.is_url(url):
        working_copy.fetch(url, place)


def _owned(builder: Any) -> contextlib.AbstractContextManager[object]:
    """Owns prepared data in a bucket, which are written there at the end.

    Waits for another machine that prepares them, as `_lock` does for processes.
    """
    place = Path(builder.data_dir)
    url = buckets.origin(place)
    if not buckets.is_url(url):
        return contextlib.nullcontext()
    return working_copy.WorkingCopy(url, place, waits=True)


def _remove_leftovers(builder: Any) -> None:
    """Deletes interrupted preparations, and damaged or outdated data."""
    place = Path(builder.data_dir)
    for leftover in place.parent.glob(f"incomplete.*_{place.name}"):
        shutil.rmtree(leftover)
    if place.exists():
        shutil.rmtree(place)


@contextlib.contextmanager
def _journal(builder: Any, opened: Any) -> Iterator[journal.Journal | None]:
    """What an interrupted preparation from the same source has done; removed after a complete one.

    None for sets that ship with the code.
    """
    if opened is None:
        yield None
        return
    metadata = builder.info.metadata
    made_of = {
        "fer_jax": fer_jax.__version__,
        "stamp": builder.stamp(),
        "source": [builder.source_digest(opened), metadata["fingerprint"]],
    }
    path = _unfinished(builder)
    with journal.Journal(path, made_of) as done:
        yield done
    path.unlink()


def _unfinished(builder: Any) -> Path:
    place = Path(builder.data_dir)
    return place.with_name(f".{place.name}.unfinished")


def _write_records(builder: Any, source_dir: Path, opened: Any, executor: Executor | None) -> None:
    import tensorflow_datasets as tfds

    builder.opened, builder.executor = opened, executor
    if opened is not None:
        builder.info.metadata["fingerprint"] = sources.fingerprint(source_dir)
    # Both only print, and TFDS has no switch for them.
    builder._log_download_bytes = lambda: None  # noqa: SLF001
    builder._log_download_done = lambda: None  # noqa: SLF001
    config = tfds.download.DownloadConfig(manual_dir=str(source_dir), try_download_gcs=False)
    try:
        with _journal(builder, opened) as builder.journal:
            builder.download_and_prepare(download_config=config)
    except OSError as error:
        raise errors.UserError(
            f"expected to write {builder.info.full_name} in {builder.data_dir_root}, found: "
            f"{error}. Free some space, and run this again: it continues with what "
            f"{_unfinished(builder)} has. Or choose another data_dir, and remove that file."
        ) from error
    builder.info.read_from_directory(builder.data_dir)  # metadata as a later run reads it
    builder.info.metadata.keys()
