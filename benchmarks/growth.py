"""Time and peak memory of the work between the images, as a set grows.

    python -m benchmarks.growth --records 1000 10000 100000 1000000
    python -m benchmarks.growth --only open report --records 100000 1000000

Made-up records without images: their index, looks, predictions. Each measurement is a process of
its own; the time leaves out imports and making the input, memory is the process's peak. For
`prepare`, `first_step`, `epoch`, `evaluate` and `predict` the process is the command, with its
start, on different images of 16 x 16 pixels and a network of 4 and 4 filters.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import corpora
from fer_jax import labels

_NAMES = labels.SEVEN
_PER_PERSON = 10  # records
_FEW = 70  # images in the other splits
_SIDE = 16  # pixels
_RUNS = 300  # of a summary; it has as many, whatever the number of records

Work = Callable[[], Any]


def looks_of(count: int) -> np.ndarray:
    """Makes uint8[N, LOOK_BYTES], noise of 6 x 6 pixels enlarged; each hundredth is a copy."""
    from tfds_builders import duplicates

    random, side = np.random.default_rng(0), duplicates.LOOK_SIDE
    small = random.integers(0, 256, (count, 6, 6), np.uint8)
    looks = np.empty((count, side**2), np.uint8)
    for row, one in enumerate(small):
        looks[row] = cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC).ravel()
    looks[::100] = looks[1::100][: len(looks[::100])] if count > 100 else looks[::100]
    return looks


def entries_of(count: int) -> list[Any]:
    """Makes the index entries of a set with ten images of each person."""
    from tfds_builders.index import Entry

    return [
        Entry(f"image_{row:09}", "train", _NAMES[row % len(_NAMES)], f"person_{row // _PER_PERSON}",
              "", "shipped", b"", f"{row:016x}")
        for row in range(count)
    ]  # fmt: skip


def duplicates_work(count: int, folder: Path) -> Work:
    """Finds near-duplicates among the looks of a set."""
    from tfds_builders import duplicates

    del folder
    looks = looks_of(count)
    return lambda: duplicates.pairs(looks)


def open_work(count: int, folder: Path) -> Work:
    """Opens a prepared set under a subject-disjoint protocol."""
    from tfds_builders import duplicates, index, leaks, prepared, protocols

    index.write(folder, entries_of(count))
    np.save(folder / leaks.LOOKS, np.zeros((count, duplicates.LOOK_BYTES), np.uint8))
    header = "id,other,similarity,split,other_split,label,other_label\n"
    pairs = (f"image_{row:09},image_{row + 1:09},0.990,train,train,a,a\n"
             for row in range(0, count - 1, 100))  # fmt: skip
    (folder / leaks.FILE).write_text(header + "".join(pairs))
    metadata = {"label_names": list(_NAMES), "notes": "", "group": "subject"}
    builder = types.SimpleNamespace(
        data_dir=str(folder), name="growth", UNITS=(), VOTES=(),
        info=types.SimpleNamespace(metadata=metadata, full_name="growth/face/1.0.0"),
    )  # fmt: skip
    protocol = protocols.Protocol("subject", "", _NAMES, protocols.by_group)
    return lambda: prepared.open_prepared(builder, protocol, 0)


def shuffle_work(count: int, folder: Path) -> Work:
    """Orders an epoch of balanced batches."""
    from fer_jax.data.sampling import BatchSampler

    del folder
    classes = np.random.default_rng(0).integers(0, 7, count)
    sampler = BatchSampler(classes, 64, 0, "sqrt")
    return lambda: sampler.rows(0)


def report_work(count: int, folder: Path) -> Work:
    """Scores predictions and writes the report with its page."""
    from fer_jax.report.card import ReportCard
    from fer_jax.report.predictions import Predictions
    from fer_jax.report.write import write_report

    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(len(_NAMES), 0.5), count).astype(np.float32)
    predictions = Predictions(
        tuple(f"image_{row:09}" for row in range(count)),
        random.integers(0, len(_NAMES), count),
        probabilities,
        tuple(f"person_{row // _PER_PERSON}" for row in range(count)),
        _NAMES,
    )
    images = np.broadcast_to(np.zeros((1, 48, 48, 3), np.uint8), (count, 48, 48, 3))
    card = ReportCard("growth", "growth", "face", "subject", "test", "light_vgg",
                      1, 0, 1, 1.0)  # fmt: skip

    def work() -> str:
        paths = write_report(folder, predictions, images, card)
        return f"index.html {paths.page.stat().st_size / 1e6:.1f} MB"

    return work


def prepare_work(count: int, folder: Path) -> Work:
    """Prepares a folder of images that are faces already."""
    write_images(folder / "images", {"train": count, "validation": _FEW, "test": _FEW})
    return lambda: command("prepare", *_data(folder))


def first_step_work(count: int, folder: Path) -> Work:
    """Trains for one step on a prepared set."""
    prepare_work(count, folder)()
    return lambda: train(folder, "1st")


def epoch_work(count: int, folder: Path) -> Work:
    """Trains for two epochs on a prepared set."""
    prepare_work(count, folder)()
    return lambda: train(folder, "2ep")


def evaluate_work(count: int, folder: Path) -> Work:
    """Evaluates a trained network on a test split, and writes the report."""
    write_images(folder / "images", {"train": _FEW, "validation": _FEW, "test": count})
    train(folder, "1st")
    return lambda: command("evaluate", str(folder / "run"))


def predict_work(count: int, folder: Path) -> Work:
    """Predicts a folder of photos into shards."""
    write_images(folder / "images", {"train": _FEW, "validation": _FEW, "test": _FEW})
    train(folder, "1st")
    corpora.write_photos(folder / "photos", count, _SIDE)
    flags = ["--faces", "whole", "--shards", "csv", "--workers", "1", "--out", str(folder / "out")]
    return lambda: command("predict", str(folder / "run"), str(folder / "photos"), *flags)


def write_images(folder: Path, counts: Mapping[str, int]) -> None:
    """Writes different images of noise, split by split and class by class."""
    random, number = np.random.default_rng(0), 0
    for split, count in counts.items():
        for name in _NAMES:
            (folder / split / name).mkdir(parents=True)
        for _ in range(count):
            image = random.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
            number += 1
            place = folder / split / _NAMES[number % len(_NAMES)]
            cv2.imwrite(str(place / f"{number:09}.png"), image)


def _data(folder: Path) -> list[str]:
    place = ["--manual_dir", str(folder / "images"), "--data_dir", str(folder / "data")]
    return ["image_folder", *place]


def train(folder: Path, epochs: str) -> dict[str, float]:
    """Trains a network of 4 and 4 filters, preparing its data if that is not done yet."""
    _, _, manual_dir, _, data_dir = _data(folder)
    fields = {
        "data.manual_dir": manual_dir, "data.dir": data_dir, "data.size": _SIDE,
        "model.widths": "4,4", "model.head_widths": "8", "train.epochs": epochs,
        "train.eval_epochs": epochs, "eval.explain": False,
    }  # fmt: skip
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    config = ["--config", "configs/image_folder.py", "--workdir", str(folder / "run")]
    return command("train", *config, *flags)


def command(*arguments: str) -> dict[str, float]:
    """Runs `fer-jax`; returns its CPU seconds, and the peak MB of its largest process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fer_jax", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status))
    return {"cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1e3}


def summary_work(count: int, folder: Path) -> Work:
    """Ranks `_RUNS` runs that predicted the same records, with paired tests."""
    from fer_jax.cli import summary

    count = max(100, count // _RUNS)
    report_work(count, folder / "first" / "report")()
    report = json.loads((folder / "first" / "report" / "report.json").read_text())
    table = (folder / "first" / "report" / "predictions.csv").read_text()
    for number in range(_RUNS):
        place = folder / f"run_{number}" / "report"
        place.mkdir(parents=True)
        (place / "predictions.csv").write_text(table)
        (place / "report.json").write_text(json.dumps(report | {"accuracy": number / _RUNS}))
        data = {"name": "growth/face/1.0.0", "protocol": "subject"}
        (place.parent / "run.json").write_text(json.dumps({"data": data}))
        config = {"seed": 0, "data": {}, "optim": {"learning_rate": number}}
        (place.parent / "config.json").write_text(json.dumps(config))
    runs = [str(folder / f"run_{number}") for number in range(_RUNS)]
    return lambda: summary.main([*runs, "--out", str(folder / "summary")])


WORK: dict[str, Callable[[int, Path], Work]] = {
    "duplicates": duplicates_work,
    "open": open_work,
    "shuffle": shuffle_work,
    "report": report_work,
    "summary": summary_work,
    "prepare": prepare_work,
    "first_step": first_step_work,
    "epoch": epoch_work,
    "evaluate": evaluate_work,
    "predict": predict_work,
}


def measure(name: str, count: int) -> None:
    """Does one piece of work in this process and prints what it took as JSON, on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        work = WORK[name](count, Path(folder))
        before, start = os.times(), time.perf_counter()
        result = work()
        seconds, after = time.perf_counter() - start, os.times()
    found = {
        "seconds": seconds,
        "cpu": after.user + after.system - before.user - before.system,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "more": result if isinstance(result, str) else "",
        **(result if isinstance(result, dict) else {}),  # of a command
    }
    print(json.dumps(found), file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for each piece of work and number of records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--only", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        measure(options.only[0], options.records[0])
        return
    print("| work | records | seconds | CPU seconds | growth | peak MB | |\n" + "|---" * 7 + "|")
    for name in options.only:
        last = None
        for count in options.records:
            command = [sys.executable, "-m", "benchmarks.growth", "--measure", "--only", name]
            done = subprocess.run(
                [*command, "--records", str(count)], capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stderr.splitlines()[-1])
            growth = f"{found['cpu'] / last:.1f}" if last else ""
            last = max(found["cpu"], 0.01)
            print(
                f"| {name} | {count:,} | {found['seconds']:.1f} | {found['cpu']:.1f} | {growth} | "
                f"{found['peak']:,.0f} | {found['more']} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
