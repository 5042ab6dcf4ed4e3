"""Students of FER+ with the shipped network as their teacher, against the same students without.

    python -m benchmarks.distillation OUT --data_dir DIR --seeds 0,1,2

Every run is an ordinary one: `configs/ferplus.py` with a narrow ResNet-18 on a part of the training
images. The students differ in their targets alone: majority labels, the teacher's probabilities as
they are, and at the temperature that was fitted for it. The teacher learned from the votes on all
training images; `votes` is a student that is given those of its own images. The table has accuracy
and balanced accuracy of the best epoch on validation. Test is read with `--test`, once a run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from fer_jax import config as configuration
from fer_jax import files
from fer_jax.cli.logs import quiet_orbax
from fer_jax.errors import exit_cleanly
from fer_jax.experiments import evaluate, paired
from fer_jax.experiments.distillation import teach
from fer_jax.monitor import summary_csv
from fer_jax.run_dir import CALIBRATION, DEFAULT_RUN
from fer_jax.runtime import compile_cache
from fer_jax.settings import Settings
from fer_jax.training import teacher
from fer_jax.training.build import data_arguments
from fer_jax.training.train import train
from tfds_builders import prepare, relabel
from tfds_builders.prepared import Prepared

OVERRIDES = (
    "model.name=resnet18", "model.widths=16,32,64,128", "model.head_widths=none",
    "model.dropout=none", "data.targets=majority", "train.batch_size=64", "train.pictures=0",
    "train.eval_epochs=2", "eval.tta=none", "eval.calibrate=false", "eval.samples=0",
    "eval.explain=false",
)  # fmt: skip
SUBSET_SEED = 2026
CALIBRATED = "calibrated"
STUDENTS = {
    "labels": (),
    "teacher": (f"train.teacher={DEFAULT_RUN.name}",),
    CALIBRATED: (f"train.teacher={DEFAULT_RUN.name}",),
    "votes": ("data.targets=votes",),
}


def subset(data: Prepared, count: int) -> str:
    """Returns a relabel.csv that leaves out all but `count` training images."""
    rows = np.random.default_rng(SUBSET_SEED).permutation(data.splits["train"])
    left_out = [data.entries[row] for row in rows[count:]]
    lines = [f"{entry.id},{entry.label},{relabel.DROP}" for entry in left_out]
    return "\n".join(["id,given,decision", *lines, ""])


def calibrate(settings: Settings, folder: Path) -> None:
    """Replaces the targets of a student by those at the teacher's temperature."""
    taught = teacher.read(folder)
    temperature = json.loads((DEFAULT_RUN / CALIBRATION).read_text())["temperature"]
    powered = taught.targets ** (1 / temperature)
    targets = powered / powered.sum(axis=1, keepdims=True)
    data = prepare.prepare(**data_arguments(settings))
    ids = [data.entries[row].id for row in data.splits["train"]]
    teacher.write(folder, targets, ids, taught.runs)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data_dir", help="folder of prepared data sets")
    parser.add_argument("--students", default=",".join(STUDENTS), help="with commas between them")
    parser.add_argument("--seeds", default="0", help="with commas between them")
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--test", action="store_true", help="read test, too")
    options = parser.parse_args()
    quiet_orbax()
    compile_cache.enable()
    table = files.write_text(
        options.out / "subset.csv",
        subset(prepare.prepare("ferplus", data_dir=options.data_dir), options.images),
    )
    common = [*OVERRIDES, f"train.epochs={options.epochs}", f"data.relabel={table}"]
    common += [f"data.dir={options.data_dir}"] if options.data_dir else []
    found: dict[str, list[np.ndarray]] = {}
    for seed in options.seeds.split(","):
        for name in options.students.split(","):
            settings = configuration.load_settings(
                "ferplus", [*common, *STUDENTS[name], f"seed={seed}"]
            )
            folder = options.out / f"{name}_{seed}"
            taught = options.out / f"{name}_{teacher.FILE}"
            if taught.exists():  # the same for every seed
                files.write_bytes(folder / teacher.FILE, taught.read_bytes())
            elif settings.train.teacher:
                teach(settings, folder)
                if name == CALIBRATED:
                    calibrate(settings, folder)
                files.write_bytes(taught, (folder / teacher.FILE).read_bytes())
            run = train(settings, folder)
            rows = summary_csv.read(folder / summary_csv.FILE)
            best = max(rows, key=lambda row: float(row["validation_accuracy"]))
            cells = [name, seed, best["validation_accuracy"], best["validation_balanced_accuracy"]]
            if options.test:
                other = evaluate.OtherData(relabel="none")
                predictions = evaluate.run_evaluation(run, "test", other).predictions
                correct = predictions.predicted == predictions.labels
                found.setdefault(name, []).append(correct)
                cells.append(f"{correct.mean():.4f}")
            print(f"| {' | '.join(cells)} |", flush=True)
    if len(found) > 1:
        means = np.array([np.mean(seeds, axis=0) for seeds in found.values()])
        for pair in paired.compare(means, [""] * means.shape[1]):
            first, second = (list(found)[row] for row in (pair.first, pair.second))
            between = pair.interval and f"{pair.interval.low:+.4f} to {pair.interval.high:+.4f}"
            print(f"{first} - {second}: {pair.difference:+.4f} ({between})")


if __name__ == "__main__":
    with exit_cleanly():
        main()
