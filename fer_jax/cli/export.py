"""Writes a run's network as one file or as a web page, without fer_jax, and verifies its output.

fer-jax export runs/demo --format onnx --out demo.onnx --variant int8
fer-jax export runs/demo --format stablehlo --out demo.stablehlo
fer-jax export runs/demo --format litert --out demo.tflite
fer-jax export runs/demo --format web --out page
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fer_jax import run_dir
from fer_jax.buckets import path_or_url
from fer_jax.cli.plugins import add_flag as add_plugins
from fer_jax.errors import UserError
from fer_jax.export.export_run import FORMATS, VARIANTS
from fer_jax.files import local_path

EXIT_PARITY = 1


def main(arguments: Sequence[str]) -> None:
    """Writes the file and its script; exit code 1 if its probabilities differ from the run's.

    Raises:
      UserError: wrong input.
    """
    options = parse(arguments)
    check(options)
    run = run_dir.open_run(options.run or run_dir.DEFAULT_RUN)
    if options.run is None:
        print(run_dir.introduce(run), file=sys.stderr)

    # Importing JAX and ONNX takes seconds; wrong flags are reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.export import litert, onnx_file, ort_web, web
    from fer_jax.export.export_run import ParityError, describe, export, find_samples
    from fer_jax.runtime import compile_cache

    ort = None
    if options.format == "litert":
        litert.check_installed()
    elif options.format != "stablehlo":
        onnx_file.check_installed()
    if options.format == "web":
        web.check_folder(options.out)
        ort = ort_web.read(options.ort)
    quiet_orbax()
    compile_cache.enable()
    samples = find_samples(run)
    if options.variant == "int8" and samples.calibration is None:
        raise UserError(
            "expected validation images to calibrate int8 on, found none; prepare "
            f"{run.data['name']} (config.json says where), or use --variant float16"
        )
    try:
        compared = export(run, options.format, options.variant, options.out, samples, ort)
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_PARITY) from None
    note_detector(run, options.format)
    for line in describe(compared, options.out, options.variant, samples):
        print(line)


def check(options: argparse.Namespace) -> None:
    """Checks flags against each other.

    Raises:
      UserError: they contradict.
    """
    if options.format in ("stablehlo", "litert") and options.variant != "float32":
        raise UserError(
            f"expected --variant float32 with --format {options.format}, found {options.variant}; "
            "float16 and int8 files are made with --format onnx"
        )
    if options.format != "web" and options.out.is_dir():
        raise UserError(f"expected a file name for --out, found the folder {options.out}")
    if options.format != "web" and options.ort is not None:
        raise UserError(f"expected --ort with --format web only, found it with {options.format}")


def note_detector(run: run_dir.Run, file_format: str) -> None:
    """Says so if what was written finds faces otherwise than the run."""
    from fer_jax.export.card import exported_framing
    from fer_jax.faces.detect import MTCNN
    from fer_jax.inference.locate import framing_of

    detector = framing_of(run).detector
    if file_format == "web" and detector != MTCNN:
        print("note: the run's face detector needs OpenCV; the page finds faces with mtcnn")
    elif exported_framing(run).detector != detector:
        print("note: the run's face detector is a file of yours; the script uses mtcnn unless told")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="fer-jax export", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "run", type=path_or_url, nargs="?",
        help="run directory, such as runs/demo (default: the shipped model)",
    )  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--out", type=local_path, required=True, help="file to write; with --format web, a folder"
    )
    parser.add_argument(
        "--variant", choices=VARIANTS, default="float32",
        help="number format; float16 and int8 are smaller, and for ONNX and the page only",
    )  # fmt: skip
    parser.add_argument(
        "--ort", type=local_path, metavar="PATH",
        help="with --format web: the npm package onnxruntime-web, a .tgz file or unpacked "
        "(default: npm fetches it, once)",
    )  # fmt: skip
    add_plugins(parser)
    return parser.parse_args(arguments)
