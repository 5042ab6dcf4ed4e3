"""Writes a run as a folder for the Hugging Face Hub, or pushes it there.

fer-jax publish runs/demo --to published/demo
fer-jax publish runs/demo --to hub:OWNER/NAME --dry_run

The folder has a model card, weights, an ONNX file, settings and the report's figures, and no image
of a data set. `fer_jax.load` reads it.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_jax import published, run_dir
from fer_jax.buckets import path_or_url
from fer_jax.cli.plugins import add_flag as add_plugins
from fer_jax.errors import UserError
from fer_jax.files import local_path

EXIT_PARITY = 1


def main(arguments: Sequence[str]) -> None:
    """Writes or pushes; exit code 1 if the ONNX file differs from the run.

    Raises:
      UserError: wrong input.
    """
    options = parse(arguments)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", options.license or "other"):
        raise UserError(
            f"expected an identifier such as apache-2.0 for --license, found {options.license!r}"
        )
    is_hub = options.to.startswith(published.HUB)
    repository, revision = published.parse(options.to) if is_hub else ("", None)
    if revision is not None:
        raise UserError(
            f"expected --to without a revision, found {options.to}; the Hub makes one of each push"
        )
    target = None if is_hub else local_path(options.to)
    if is_hub and not options.dry_run:
        published.import_hub()
    run = run_dir.open_run(options.run or run_dir.DEFAULT_RUN)
    if options.run is None:
        print(run_dir.introduce(run), file=sys.stderr)
    license_id = options.license or ("apache-2.0" if run.is_shipped else "other")

    # Importing JAX and ONNX takes seconds; wrong flags are reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.export import onnx_file, publish
    from fer_jax.export.export_run import ParityError
    from fer_jax.runtime import compile_cache

    onnx_file.check_installed()
    if target is not None:
        publish.check_folder(target)
    quiet_orbax()
    compile_cache.enable()
    with tempfile.TemporaryDirectory(prefix="fer_jax_publish_") as place:
        is_kept = not is_hub and not options.dry_run
        folder = Path(options.to) if is_kept else Path(place) / run.name
        try:
            name = options.to if is_hub else f"path/to/{Path(options.to).name}"
            entries = publish.publish(run, folder, name, license_id)
        except ParityError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(EXIT_PARITY) from None
        print_files(entries)
        if options.dry_run:
            print(f"dry run: nothing was {'pushed' if is_hub else 'written'} to {options.to}")
        elif is_hub:
            print(f"pushed to {publish.push(folder, repository)}")
            print("a repository that was new is private; its settings on the Hub open it")
        else:
            print(f"{folder}  (try: fer-jax predict {folder} photo.jpg)")


def print_files(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints what goes: name, size and the beginning of the SHA-256."""
    width = max(map(len, entries))
    for name, entry in entries.items():
        print(f"{name:{width}}  {entry['size']:>11,}  {entry['sha256'][:16]}")
    total = sum(entry["size"] for entry in entries.values())
    print(f"{len(entries)} files and {published.MANIFEST}, {total / 1e6:.1f} MB")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax publish", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "run", type=path_or_url, nargs="?",
        help="run directory, such as runs/demo (default: the shipped model)",
    )  # fmt: skip
    parser.add_argument(
        "--to", required=True, metavar="PLACE",
        help="a new folder, or hub:OWNER/NAME on the Hugging Face Hub",
    )  # fmt: skip
    parser.add_argument(
        "--license", metavar="ID",
        help="of the weights, such as apache-2.0 (default: none is stated)",
    )  # fmt: skip
    parser.add_argument(
        "--dry_run", action="store_true", help="write and push nothing; list the files"
    )
    add_plugins(parser)
    return parser.parse_args(arguments)
