"""Prepares a data set: archive or folder in, array_record out, with a summary.

    fer-jax prepare kdef --manual_dir ~/Downloads

`prepare` is the same for programs. A preparation is written beside its final place
and renamed when whole, so a killed one leaves nothing that a second run trusts.
What a set looks like on disk is the business of its own folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fcntl
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fer_jax import errors
from fer_jax.faces.crop import FaceCrop
from fer_jax.monitor import console
from tfds_builders import index, prepared, protocols, sources, summary
from tfds_builders.prepared import Prepared

NAMES: tuple[str, ...] = (
    "kdef", "rafd", "raf_db", "sfew", "amfed_plus", "fer2013", "ferplus", "ck_plus", "jaffe",
    "affectnet", "expw", "image_folder", "synthetic_faces",
)  # fmt: skip
"""Every data set here; `tfds_builders/<name>/<name>_dataset_builder.py` has its `Builder`."""

FILE_FORMAT = "array_record"  # the random-access format that needs no TensorFlow

CROP_FLAGS: dict[str, str] = {
    "margin": "margin",
    "min_share": "min_share",
    "detector": "detector",
    "fallback": "fallback",
    "size": "longest_side",
}
"""Flags of the command line to fields of `FaceCrop`."""


def get(
    name: str,
    variant: str | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    crop: Mapping[str, Any] | None = None,
) -> Any:
    """The builder of a data set, prepared or not.

    Args:
      name: One of `NAMES`.
      variant: How faces are cut, a TFDS config of the set; None is the set's default.
      data_dir: Where prepared sets live; None is `TFDS_DATA_DIR` or
        `~/tensorflow_datasets`.
      manual_dir: The user's copy; sets made of many people's folders are named by it.
      crop: Fields of `FaceCrop` to have otherwise than in the variant; values of None are
        left. They make a variant of their own, such as "face-1f2e3d4c".

    Returns:
      A `StoredBuilder`; its `info` is that of the prepared data if there.

    Raises:
      errors.UserError: Unknown set or variant, crop settings that cannot be, or prepared data
        that cannot be read.
    """
    builder_class = _builder_class(name)
    config = _config(builder_class, variant, data_dir, manual_dir, crop)
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from tensorflow_datasets.core import dataset_info

    try:
        builder = builder_class(
            data_dir=str(data_root(data_dir)), config=config, file_format=FILE_FORMAT
        )
        builder.info.metadata.keys()  # TFDS loads stored metadata lazily, but `in` does not
    except (dataset_info.DatasetInfoFileError, json_format.ParseError, ValueError) as error:
        raise errors.UserError(
            f"expected prepared data of {name} in {data_root(data_dir) / name}, found an "
            f"unreadable description ({error}). Delete that folder and build the set again."
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
) -> Prepared:
    """The records of a data set, ready for random access, and who is in which split.

    Prepares the set first unless that was done before, with progress on stderr and the
    summary on stdout.

    Args:
      name: One of `NAMES`.
      variant: As in `get`.
      data_dir: As in `get`.
      manual_dir: Where the user's copy of the set lies: its archive, or a folder that
        holds it; None is `<data_dir>/downloads/manual`, as in TFDS.
      protocol: Who is in which split: a protocol of the set, or a fold such as
        "fold3of10"; None is the set's default.
      seed: Decides what the protocol draws.
      crop: As in `get`.
      rebuild: Replace what was prepared before.

    Raises:
      errors.UserError: Unknown set, variant or protocol; source missing, incomplete or
        unreadable; data_dir not writable; data prepared before with other settings or from
        another source; a protocol that leaves a split without some class.
    """
    builder = get(name, variant, data_dir, manual_dir, crop)
    chosen = _protocol(builder, protocol)
    source_dir = _manual_dir(builder, manual_dir)
    if not rebuild and is_whole(builder):
        _check_unchanged(builder, source_dir if manual_dir else None)
        return prepared.open_prepared(builder, chosen, seed)
    opened = _check_source(builder, source_dir, chosen, seed)  # before anything is written
    _check_writable(Path(builder.data_dir_root))
    with _alone(builder):
        if rebuild or not is_whole(builder):  # another process may have been faster
            _remove_leftovers(builder)
            # A builder made while old data was there would keep that data's description.
            fresh = get(name, variant, data_dir, manual_dir, crop)
            _write_records(fresh, source_dir, opened)
    builder = get(name, variant, data_dir, manual_dir, crop)
    done = prepared.open_prepared(builder, chosen, seed)
    print(summary.describe(done), flush=True)
    return done


def data_root(data_dir: str | None = None) -> Path:
    """Where prepared sets live: the argument, else `TFDS_DATA_DIR`, else TFDS's default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser().absolute()


def _builder_class(name: str) -> Any:
    if name not in NAMES:
        nearest = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise errors.UserError(
            f"expected the name of a data set ({', '.join(NAMES)}), found {name!r}.{hint}"
        )
    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    _silence_tfds()
    return module.Builder


def _config(
    builder_class: Any,
    variant: str | None,
    data_dir: str | None,
    manual_dir: str | None,
    crop: Mapping[str, Any] | None,
) -> Any:
    """The TFDS config: one of the set's, or one made from it."""
    known = builder_class.builder_configs
    changes = {field: value for field, value in (crop or {}).items() if value is not None}
    if variant is not None and variant not in known:
        made = _stored(builder_class, variant, data_dir)
        if made is not None:
            return _with_crop(made, changes)
        nearest = difflib.get_close_matches(variant, known, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        if variant in builder_class.PROTOCOLS:
            hint = f" {variant!r} is a protocol: --protocol {variant} (config.data.protocol)."
        raise errors.UserError(
            f"expected a variant of {builder_class.name} ({', '.join(sorted(known))}), "
            f"found {variant!r}.{hint}"
        )
    config = known[variant] if variant else builder_class.BUILDER_CONFIGS[0]
    if not hasattr(config, "crop"):
        if changes:
            raise errors.UserError(
                f"expected no crop settings for {builder_class.name}, whose pictures are stored "
                f"whole, found {', '.join(changes)}. Its faces are cut by config.data.face_margin."
            )
        return config
    config = _with_crop(config, changes)
    return builder_class.variant_for(Path(manual_dir) if manual_dir else None, config)


def _stored(builder_class: Any, variant: str, data_dir: str | None) -> Any:
    """A variant that was made from the set's own and is prepared, by the name of its folder."""
    place = data_root(data_dir) / builder_class.name / variant / str(builder_class.VERSION)
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
        return None  # none of that name; the caller says so


def _with_crop(config: Any, changes: Mapping[str, Any]) -> Any:
    """A variant with some crop settings changed; itself where nothing is."""
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
        known = [*builder.PROTOCOLS, "fold1of10 ..."]
        nearest = difflib.get_close_matches(str(name), builder.PROTOCOLS, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise errors.UserError(
            f"expected a protocol of {builder.name} ({', '.join(known)}), found {name!r}.{hint}"
        )
    return chosen


def _silence_tfds() -> None:
    """One summary of our own replaces TFDS's bars and absl's remarks."""
    import tensorflow_datasets as tfds
    from absl import logging as absl_logging

    tfds.disable_progress_bar()
    if absl_logging.get_verbosity() <= absl_logging.WARNING:
        absl_logging.set_verbosity(absl_logging.ERROR)


def _manual_dir(builder: Any, manual_dir: str | None) -> Path:
    if manual_dir:
        return Path(manual_dir).expanduser().absolute()
    return Path(builder.data_dir_root) / "downloads" / "manual"


def _check_source(builder: Any, source_dir: Path, chosen: protocols.Protocol, seed: int) -> Any:
    """Reads names and labels of sets that the user brings, before anything is written.

    A copy that lacks a whole class or has too few people is found here, in seconds.
    """
    if not hasattr(builder, "open"):
        return None
    opened = builder.open(source_dir)
    builder.builder_config.crop.make_detector()
    rows = [record.row for record in opened.records]
    prepared.assign(rows, chosen, builder.label_names, seed, builder.name)
    return opened


def is_whole(builder: Any) -> bool:
    """Whether every record that the description promises can be reached.

    The rename makes a killed preparation invisible; this finds what a power cut or a
    careless copy left: missing or truncated record files.
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
    except Exception:  # noqa: BLE001 - array_record raises what its parser or the system gave
        return False
    stored = builder.info.metadata.get("index_sha256", "")
    return bool(builder.info.splits) and index.is_whole(Path(builder.data_dir), stored)


def _check_unchanged(builder: Any, source_dir: Path | None) -> None:
    """Prepared data must be what this code, and the source that is named, would give."""
    stored = builder.info.metadata.get("stamp", {})
    current = json.loads(json.dumps(builder.stamp()))  # tuples become lists, as in the file
    changes = [
        f"{field}: {stored.get(field)!r} then, {current.get(field)!r} now"
        for field in sorted(set(stored) | set(current))
        if stored.get(field) != current.get(field)
    ]
    changes += _source_changes(builder, source_dir)
    if changes:
        manual = f" --manual_dir {source_dir}" if source_dir else ""
        raise errors.UserError(
            f"expected {builder.name} in {builder.data_dir} to be prepared from the same source "
            f"with the same settings; found {'; '.join(changes)}. Choose another data_dir, or "
            f"replace it: fer-jax prepare {builder.name}{_flags(builder)} "
            f"--data_dir {builder.data_dir_root}{manual} --rebuild"
        )


def _flags(builder: Any) -> str:
    """The flags that name a variant on the command line."""
    config = builder.builder_config
    base = getattr(config, "base", "")
    if not base:
        return f" --config {config.name}"
    own, original = config.crop, builder.builder_configs[base].crop
    changed = [
        f" --{flag} {getattr(own, field)}"
        for flag, field in CROP_FLAGS.items()
        if getattr(own, field) != getattr(original, field)
    ]
    return f" --config {base}{''.join(changed)}"


def _source_changes(builder: Any, source_dir: Path | None) -> list[str]:
    """Whether another copy lies where the user points; a copy that is gone changes nothing."""
    if source_dir is None or not hasattr(builder, "open"):
        return []
    metadata = builder.info.metadata
    if sources.fingerprint(source_dir) == metadata.get("fingerprint"):
        return []
    try:
        opened = builder.open(source_dir)
    except errors.UserError:
        return []
    if builder.source_digest(opened) == metadata.get("source_digest"):
        return []
    return [f"source: {metadata.get('source')} then, {opened.source.path} now"]


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
def _alone(builder: Any) -> Iterator[None]:
    """Holds the lock of this set and config: one process prepares, the others wait.

    The kernel drops the lock when its holder dies, however it dies.
    """
    place = Path(builder.data_dir).parent
    place.mkdir(parents=True, exist_ok=True)
    with open(place / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print_stderr(
                f"waiting for another process that prepares {builder.info.full_name}"
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(builder: Any) -> None:
    """Deletes what killed preparations left, and a damaged or outdated one."""
    place = Path(builder.data_dir)
    for leftover in place.parent.glob(f"incomplete.*_{place.name}"):
        shutil.rmtree(leftover)
    if place.exists():
        shutil.rmtree(place)


def _write_records(builder: Any, source_dir: Path, opened: Any) -> None:
    import tensorflow_datasets as tfds

    builder.opened = opened
    if opened is not None:
        builder.info.metadata["fingerprint"] = sources.fingerprint(source_dir)
    # Both only print; there is no switch for them.
    builder._log_download_bytes = lambda: None  # noqa: SLF001
    builder._log_download_done = lambda: None  # noqa: SLF001
    config = tfds.download.DownloadConfig(manual_dir=str(source_dir), try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except OSError as error:
        raise errors.UserError(
            f"expected to write {builder.info.full_name} in {builder.data_dir_root}, found: "
            f"{error}. Free some space or choose another data_dir, and run this again."
        ) from error
