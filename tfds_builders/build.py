"""Prepares a data set: archive or folder in, array_record out, with a summary.

    python -m tfds_builders.build kdef --manual_dir ~/Downloads

`prepare` is the same for programs. A preparation is written beside its final place
and renamed when whole, so a killed one leaves nothing that a second run trusts.
What a set looks like on disk is the business of its own folder.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import fcntl
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_jax import errors
from tfds_builders import console, summary

NAMES: tuple[str, ...] = ("kdef", "synthetic_faces")
"""Every data set here; `tfds_builders/<name>/<name>_dataset_builder.py` has its `Builder`."""

FILE_FORMAT = "array_record"  # the random-access format that needs no TensorFlow


def get(name: str, config: str | None = None, data_dir: str | None = None) -> Any:
    """The builder of a data set, prepared or not.

    Args:
      name: One of `NAMES`.
      config: A configuration (protocol) of the set; None is the set's default.
      data_dir: Where prepared sets live; None is `TFDS_DATA_DIR` or
        `~/tensorflow_datasets`.

    Returns:
      A `tfds.core.DatasetBuilder`; its `info` is that of the prepared data if there.

    Raises:
      errors.UserError: Unknown set or config, or prepared data that cannot be read.
    """
    builder_class = _builder_class(name)
    _check_config(builder_class, config)
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
    config: str | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    *,
    rebuild: bool = False,
) -> Any:
    """The builder of a data set, its records ready for `as_data_source(split)`.

    Prepares the set first unless that was done before, with progress on stderr and the
    summary on stdout.

    Args:
      name: One of `NAMES`.
      config: A configuration (protocol) of the set; None is the set's default.
      data_dir: As in `get`.
      manual_dir: Where the user's copy of the set lies: its archive, or a folder that
        holds it; None is `<data_dir>/downloads/manual`, as in TFDS.
      rebuild: Replace what was prepared before.

    Returns:
      A `tfds.core.DatasetBuilder`; `info.metadata` has label_names, protocol,
      derived_labels, stand_in, synthetic, group, notes and leaks.

    Raises:
      errors.UserError: Unknown set or config; source missing, incomplete or unreadable;
        data_dir not writable; data prepared before with other settings or from
        another source.
    """
    builder = get(name, config, data_dir)
    source_dir = _manual_dir(builder, manual_dir)
    if not rebuild and _is_whole(builder):
        _check_unchanged(builder, source_dir if manual_dir else None)
        return builder
    _check_source(builder, source_dir)  # before anything is written
    _check_writable(Path(builder.data_dir_root))
    with _alone(builder):
        if rebuild or not _is_whole(builder):  # another process may have been faster
            _remove_leftovers(builder)
            # A builder made while old data was there would keep that data's description.
            _write_records(get(name, config, data_dir), source_dir)
    builder = get(name, config, data_dir)
    print(summary.describe(builder), flush=True)
    return builder


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


def _check_config(builder_class: Any, config: str | None) -> None:
    known = sorted(builder_class.builder_configs)
    if config is None or config in known:
        return
    nearest = difflib.get_close_matches(config, known, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise errors.UserError(
        f"expected a configuration of {builder_class.name} ({', '.join(known) or 'it has none'}), "
        f"found {config!r}.{hint}"
    )


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


def _check_source(builder: Any, source_dir: Path) -> None:
    """Sets that the user brings are looked for before anything is written."""
    if hasattr(builder, "open_source"):
        builder.open_source(source_dir)


def _is_whole(builder: Any) -> bool:
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
    return bool(builder.info.splits)


def _check_unchanged(builder: Any, source_dir: Path | None) -> None:
    """Prepared data must be what this code, and the source that is named, would give."""
    if not hasattr(builder, "stamp"):
        return
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
            f"replace it: python -m tfds_builders.build {builder.name} --config "
            f"{builder.builder_config_name} --data_dir {builder.data_dir_root}{manual} --rebuild"
        )


def _source_changes(builder: Any, source_dir: Path | None) -> list[str]:
    """Whether another copy lies where the user points; a copy that is gone changes nothing."""
    if source_dir is None or not hasattr(builder, "open_source"):
        return []
    try:
        source = builder.open_source(source_dir)
    except errors.UserError:
        return []
    if builder.source_digest(source) == builder.info.metadata.get("source_digest"):
        return []
    return [f"source: {builder.info.metadata.get('source')} then, {source.path} now"]


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
            console.say(f"waiting for another process that prepares {builder.info.full_name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(builder: Any) -> None:
    """Deletes what killed preparations left, and a damaged or outdated one."""
    place = Path(builder.data_dir)
    for leftover in place.parent.glob(f"incomplete.*_{place.name}"):
        shutil.rmtree(leftover)
    if place.exists():
        shutil.rmtree(place)


def _write_records(builder: Any, source_dir: Path) -> None:
    import tensorflow_datasets as tfds

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


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.build",
        description="Prepare a data set for training, and say what was found, used and dropped.",
    )
    parser.add_argument("name", help=f"the data set: {', '.join(NAMES)}")
    parser.add_argument("--manual_dir", help="your copy of the set: archive, or folder with it")
    parser.add_argument("--data_dir", help="where prepared sets live (default: as in TFDS)")
    parser.add_argument("--config", help="the protocol; each set's README lists its own")
    parser.add_argument("--rebuild", action="store_true", help="replace what was prepared before")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exit code 2 with one message when the input is wrong."""
    options = _parse(arguments)
    with errors.exit_cleanly():
        before = get(options.name, options.config, options.data_dir)
        was_there = not options.rebuild and _is_whole(before)
        builder = prepare(
            options.name,
            options.config,
            options.data_dir,
            options.manual_dir,
            rebuild=options.rebuild,
        )
        if was_there:
            print("already prepared, nothing to do:")
            print(summary.describe(builder), flush=True)


if __name__ == "__main__":
    main()
