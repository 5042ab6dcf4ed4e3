"""Reads the expressions of faces in images, folders, videos or a camera's view.

fer-jax predict photo.jpg
fer-jax predict runs/demo photo.jpg album/ clip.mp4 --out results
fer-jax predict clip.mp4 --smooth 0.2 --out results
fer-jax predict camera --show

Without a run directory the shipped model predicts. Without --out nothing is written. Many
photos and videos:

fer-jax predict album/ more.csv --out results --shards parquet --workers 8
fer-jax predict album/ more.csv --out results --shards parquet --cluster auto
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax.buckets import exists, is_url, origin, path_or_url
from fer_jax.cli.abstain import add_flag as add_abstain
from fer_jax.cli.plugins import add_flag as add_plugins
from fer_jax.cli.workers import add_flags, make_executor
from fer_jax.errors import EXIT_INTERRUPTED, UserError
from fer_jax.printable import printable
from fer_jax.working_copy import working_copy

if TYPE_CHECKING:
    from fer_jax.inference.outputs import Counts
    from fer_jax.inference.sources import Found, Source
    from fer_jax.inference.stream import PredictOptions
    from fer_jax.run_dir import Run

_FIGURES = 12  # each takes a third of a second


def main(arguments: Sequence[str]) -> None:
    """Prints the faces, and writes them with annotated images; exit code 2 if none can be read.

    Raises:
      UserError: wrong input.
      KeyboardInterrupt: after Ctrl-C, when everything is written. A camera's view ends so.
    """
    options = parse(arguments)
    from fer_jax import run_dir

    folder, names = choose_run(options.inputs)
    run = run_dir.open_run(folder)
    with contextlib.ExitStack() as stack:
        if options.out:
            options.out = stack.enter_context(working_copy(options.out))
        _run(run, names, options)


def _run(run: Run, names: Sequence[str], options: argparse.Namespace) -> None:
    """Predicts with an opened run.

    Raises:
      UserError: as `main`, which KeyboardInterrupt leaves too.
    """
    from fer_jax import run_dir
    from fer_jax.faces.crop import FaceCrop
    from fer_jax.inference import sources as inputs

    if options.shards:
        _predict_corpus(run, names, options)
        return
    found = inputs.find_sources(names, options.out)
    check_video_flags(options, found.sources)
    for source in found.sources:
        if source.kind == "camera":
            inputs.check_camera(source)
    if options.detector:
        FaceCrop(detector=options.detector).make_detector()  # reports a wrong one

    check_abstain(options.abstain, run.labels)

    # Importing JAX takes seconds; wrong input is reported before.
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.inference.predict import describe
    from fer_jax.runtime import compile_cache, signals

    print(run_dir.introduce(run), file=sys.stderr)
    quiet_orbax()
    compile_cache.enable()
    wanted = _wanted(run, options)
    with signals.interrupt_on_terminate() as received:
        outputs = _predict(run, found, wanted, options)
    if not outputs.sources and not outputs.interrupted:
        why = f"{options.out / 'predictions.json'} says" if options.out else "the lines above say"
        raise UserError(
            "expected an image or video that can be read, found none among "
            f"{len(found.sources):,}; {why} why"
        )
    # The card of a shipped run, which is named above, has them.
    warnings = () if run.is_shipped else run_dir.report_warnings(run)
    for line in describe(outputs, warnings, found.count_ignored()):
        print(printable(line))
    if received:
        raise SystemExit(128 + received[0])
    if outputs.interrupted and all(source.kind != "camera" for source in found.sources):
        raise KeyboardInterrupt


def _wanted(run: Run, options: argparse.Namespace) -> PredictOptions:
    """Which faces to classify, by the flags and the run."""
    from fer_jax.inference.locate import framing_of
    from fer_jax.inference.stream import PredictOptions

    if options.faces is None and framing_of(run).takes_whole:
        print(
            "note: the run was trained on uncropped images, so whole images are classified; "
            "--faces=all detects faces"
        )
        options.faces = "whole"
    return PredictOptions(
        options.faces or "all", options.no_face == "whole", options.explain, options.min_face,
        options.detector, options.abstain,
    )  # fmt: skip


def _predict_corpus(run: Run, names: Sequence[str], options: argparse.Namespace) -> None:
    """Predicts photos and videos into shards, in processes."""
    from fer_jax import run_dir
    from fer_jax.cli.logs import quiet_orbax
    from fer_jax.faces.crop import FaceCrop
    from fer_jax.inference import corpus
    from fer_jax.runtime import compile_cache, signals

    print(run_dir.introduce(run), file=sys.stderr)
    check_abstain(options.abstain, run.labels)
    if options.detector:
        FaceCrop(detector=options.detector).make_detector()  # reports a wrong one
    quiet_orbax()
    compile_cache.enable()
    executor, wanted = make_executor(options), _wanted(run, options)
    with signals.interrupt_on_terminate() as received:
        try:
            for line in corpus.predict(run, names, options.out, wanted, options.shards, executor):
                print(printable(line))
        except KeyboardInterrupt:
            print(f"stopped; the same command goes on with {origin(options.out)}", file=sys.stderr)
            raise SystemExit(128 + received[0] if received else EXIT_INTERRUPTED) from None


def _predict(run: Run, found: Found, wanted: PredictOptions, options: argparse.Namespace) -> Counts:
    """Predicts the sources; with --show, on a page as well."""
    from fer_jax.inference.live import LiveView
    from fer_jax.inference.predict import predict
    from fer_jax.inference.smoothing import Smoothing

    smoothing = Smoothing(options.smooth) if options.smooth else None
    with LiveView() if options.show else contextlib.nullcontext() as view:
        if view:
            print(f"live view: {view.address} (Ctrl-C ends it)", flush=True)
            view.open_browser()
        outputs = predict(
            run, found, options.out, wanted, options.figures, not options.no_pictures,
            options.seconds, smoothing, view,
        )  # fmt: skip
    if view:
        print(view.describe_delay())
    return outputs


def choose_run(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """Splits the positional arguments into the run directory and the inputs.

    The first one is the run if it is a run directory or the name of a shipped run.

    Raises:
      UserError: no inputs, or a first argument that is neither a run nor an input.
    """
    from fer_jax import run_dir
    from fer_jax.inference.sources import STREAMS, is_input

    wanted = "images, folders, videos or a camera"
    if not arguments:
        raise UserError(f"expected {wanted}, found none; for example: fer-jax predict photo.jpg")
    first, *rest = arguments
    if first.lower().startswith(STREAMS):
        return run_dir.DEFAULT_RUN, list(arguments)
    if is_url(first) and not exists(f"{path_or_url(first)}/run.json"):
        return run_dir.DEFAULT_RUN, list(arguments)
    folder = run_dir.find_run(first)
    if run_dir.is_run(folder):
        if not rest:
            raise UserError(
                f"expected {wanted} after the run {first}, found none; for example: "
                f"fer-jax predict {first} photo.jpg"
            )
        return folder, rest
    if run_dir.has_parts(folder):
        run_dir.open_run(folder)  # raises: a folder of images has none of a run's files
    if runs := sorted(path.parent.name for path in folder.glob("*/run.json")):
        raise UserError(
            f"expected a run directory or images, found {first}, a folder of runs; name one of "
            f"them: {', '.join(runs)}"
        )
    if not is_input(first):
        raise UserError(
            f"expected a run directory, an image, a video, a folder, 'camera' or a stream's URL, "
            f"found nothing at {first}; check the path"
        )
    return run_dir.DEFAULT_RUN, list(arguments)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
      UserError: a value out of range, or a flag without effect.
    """
    parser = argparse.ArgumentParser(
        prog="fer-jax predict", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "inputs", nargs="*", metavar="[RUN] INPUT",
        help="run directory, such as runs/demo (default: the shipped model); then images, folders, "
        "videos, camera (camera:1 is the second), or rtsp and http URLs; all but cameras also in "
        "buckets, gs:// and s3://",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=path_or_url,
        help="folder for tables and annotated images, also gs://bucket/out (default: none)",
    )
    _add_face_flags(parser)
    parser.add_argument("--explain", action="store_true", help="draw Grad-CAM maps on the faces")
    parser.add_argument(
        "--figures", type=int, default=_FIGURES, metavar="N",
        help=f"probability figures for the first N faces of images (default: {_FIGURES})",
    )  # fmt: skip
    parser.add_argument(
        "--no_pictures", action="store_true", help="write the tables only, which is faster"
    )
    parser.add_argument(
        "--seconds", type=float, help="how long to watch a camera (default: until Ctrl-C)"
    )
    parser.add_argument(
        "--smooth", type=float, metavar="SECONDS",
        help="smooth the probabilities of each person in videos by an exponential moving average "
        "with this time constant, such as 0.2 (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--show", action="store_true",
        help="show a camera or a stream with labeled faces on a page of this machine, live",
    )  # fmt: skip
    add_plugins(parser)
    add_abstain(parser, "below this top probability the label is 'uncertain'; probabilities stay")
    _add_corpus_flags(parser)
    options = parser.parse_args(arguments)
    _check(options)
    return options


def _add_face_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which faces are classified."""
    parser.add_argument(
        "--faces", choices=("all", "largest", "whole"),
        help="which faces (default: all); whole: each image is cropped to a face already, "
        "which is the default of a run on uncropped images of yours",
    )  # fmt: skip
    parser.add_argument(
        "--min_face", type=float, default=0.1, metavar="SHARE",
        help="smallest face side, as a share of the image's shorter side (default: 0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--detector", metavar="NAME",
        help="mtcnn, haar, haar_frontal, or the file of a YuNet model (default: mtcnn, or haar for "
        "a run on faces that it cropped)",
    )  # fmt: skip
    parser.add_argument(
        "--no_face", choices=("whole", "skip"), default="whole",
        help="an image without a face: classify the whole image (default), or skip it; "
        "frames of videos are always skipped",
    )  # fmt: skip


def _add_corpus_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shards", choices=("parquet", "csv"),
        help="for many photos and videos, also listed in tables (.csv, .parquet) with a column "
        "path: write tables of 1,000 photos and frames each into --out, without tracks; the same "
        "command goes on where it was stopped",
    )  # fmt: skip
    add_flags(parser)


def _check(options: argparse.Namespace) -> None:
    """Checks the values of flags."""
    if not 0 < options.min_face <= 1:
        raise UserError(f"expected --min_face above 0 and up to 1, found {options.min_face}")
    if options.explain and not options.out:
        raise UserError("expected --out FOLDER with --explain, which draws into it, found none")
    if options.smooth is not None and not 0 < options.smooth < float("inf"):
        raise UserError(f"expected --smooth above 0 seconds, found {options.smooth}")
    if (options.workers or options.cluster) and not options.shards:
        flag = "--workers" if options.workers else "--cluster"
        raise UserError(f"expected --shards parquet or csv with {flag}, found none")
    if options.shards:
        alone = ("explain", "seconds", "smooth", "show")
        if given := [f"--{name}" for name in alone if getattr(options, name)]:
            raise UserError(f"expected only tables with --shards, found {given[0]}")
        if not options.out:
            raise UserError("expected --out FOLDER with --shards, which are written there")
    if options.smooth and not (options.out or options.show):
        raise UserError("expected --out FOLDER or --show with --smooth, found neither")


def check_abstain(threshold: float, labels: Sequence[str]) -> None:
    """Checks that the word for no answer is no class.

    Raises:
      UserError: it is one.
    """
    from fer_jax.inference.results import UNCERTAIN

    if threshold and UNCERTAIN in labels:
        raise UserError(
            f"expected a run without a class {UNCERTAIN!r} with --abstain, which uses that word, "
            f"found {', '.join(labels)}; leave --abstain out"
        )


def check_video_flags(options: argparse.Namespace, sources: Sequence[Source]) -> None:
    """Checks that flags for videos and cameras have such an input.

    Raises:
      UserError: they have none.
    """
    kinds = [source.kind for source in sources]
    if options.smooth and all(kind == "picture" for kind in kinds):
        raise UserError("expected a video or a camera with --smooth, found only images")
    if options.show and kinds != ["camera"]:
        raise UserError(
            "expected one camera or stream with --show and no other input; for example: "
            "fer-jax predict camera --show"
        )
