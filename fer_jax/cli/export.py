"""Writes a run's network as one file that runs without fer_jax, and verifies its output.

fer-jax export runs/demo --format onnx --out demo.onnx --variant int8
fer-jax export runs/demo --format stablehlo --out demo.stablehlo
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_jax import run_dir
from fer_jax.errors import UserError
from fer_jax.export.export_run import FORMATS, VARIANTS

EXIT_PARITY = 1


def main(arguments: Sequence[str]) -> None:
    """Writes the file and its script; exit code 1 if its probabilities differ from the run's.

    Raises:
      UserError: wrong input.
    """
    options = parse(arguments)
    if options.format == "stablehlo" and options.variant != "float32":
        raise UserError(
            f"expected --variant float32 with StableHLO, found {options.variant}; "
            "float16 and int8 files are made with --format onnx"
        )
    if options.out.is_dir():
        raise UserError(f"expected a file name for --out, found the folder {options.out}")
    run = run_dir.open_run(options.run)

    # Importing JAX and ONNX takes seconds; wrong flags are reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.export import onnx_file
    from fer_jax.export.card import exported_framing
    from fer_jax.export.export_run import ParityError, describe, export, find_samples
    from fer_jax.inference.locate import framing_of
    from fer_jax.runtime import compile_cache

    if options.format == "onnx":
        onnx_file.check_installed()
    quiet_orbax()
    compile_cache.enable()
    samples = find_samples(run)
    if options.variant == "int8" and samples.calibration is None:
        raise UserError(
            "expected validation images to calibrate int8 on, found none; prepare "
            f"{run.data['name']} (config.json says where), or use --variant float16"
        )
    try:
        compared = export(run, options.format, options.variant, options.out, samples)
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_PARITY) from None
    if exported_framing(run).detector != framing_of(run).detector:
        print("note: the run's face detector is a file of yours; the script uses mtcnn unless told")
    for line in describe(compared, options.out, options.variant, samples):
        print(line)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax export", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="run directory, such as runs/demo")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--variant", choices=VARIANTS, default="float32",
        help="number format; float16 and int8 are smaller, and for ONNX only",
    )  # fmt: skip
    return parser.parse_args(arguments)
