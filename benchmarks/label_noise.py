"""Losses for wrong labels against cross-entropy, on FER2013 with known noise.

    python -m benchmarks.label_noise OUT --data_dir DIR --methods cross_entropy,forward --seeds 1,2

A share of the labels of a training subset is replaced by another class, drawn uniformly with a
fixed seed; validation and test keep theirs. Every run is an ordinary one of a narrow ResNet-18 from
random weights, with only the loss changed. Methods that the package does not have replace its
loss, and come last. The table has, for each method and seed, the validation
accuracy of the best epoch and of the last one. Test is read with `--test`, once for each run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax import config as configuration
from fer_jax import files
from fer_jax.cli.logs import quiet_orbax
from fer_jax.errors import exit_cleanly
from fer_jax.experiments import evaluate, paired
from fer_jax.monitor import summary_csv
from fer_jax.runtime import compile_cache
from fer_jax.settings import Settings
from fer_jax.training import losses
from fer_jax.training.recipe import Recipe
from fer_jax.training.train import train
from tfds_builders import prepare, relabel
from tfds_builders.prepared import Prepared

NOISE = 0.4
NOISE_SEED = 2026
"""Chooses the subset and the labels that are replaced."""

OVERRIDES = (
    "model.pretrained=none", "model.name=resnet18", "model.widths=16,32,64,128",
    "model.head_widths=none", "model.dropout=none", "train.head_epochs=0",
    "train.pictures=0", "train.batch_size=64", "train.eval_epochs=4",
    "eval.tta=none", "eval.calibrate=false", "eval.samples=0", "eval.explain=false",
)  # fmt: skip

Loss = Callable[[jax.Array, jax.Array, Recipe], jax.Array]


def generalized(logits: jax.Array, targets: jax.Array, recipe: Recipe) -> jax.Array:
    """Generalized cross-entropy with q = 0.7 (Zhang and Sabuncu 2018, equation 6)."""
    del recipe
    log_p = jax.nn.log_softmax(logits)
    return -(targets * jnp.expm1(0.7 * log_p) / 0.7).sum(axis=-1)


def symmetric(logits: jax.Array, targets: jax.Array, recipe: Recipe) -> jax.Array:
    """Symmetric cross-entropy, alpha 0.1, beta 1, log 0 = -4 (Wang et al. 2019, section 3)."""
    del recipe
    reverse = 4 * (1 - (targets * jax.nn.softmax(logits)).sum(axis=-1))
    return 0.1 * losses.cross_entropy(logits, targets) + reverse


OPTIONS = {
    "cross_entropy": "train.label_smoothing=0",
    "smoothed": "train.label_smoothing=0.1",
    "forward": f"train.label_noise={NOISE}",
    "half": f"train.label_noise={NOISE / 2}",
}
"""Methods that the package has, by their setting. `half` is a wrong guess of the noise."""

LOSSES: dict[str, Loss] = {one.__name__: one for one in (generalized, symmetric)}
"""Methods that it does not have."""

PLAIN = losses.image_losses


def noisy_table(data: Prepared, count: int) -> str:
    """Returns a relabel.csv: `count` training images, `NOISE` of them with another label."""
    rng = np.random.default_rng(NOISE_SEED)
    rows = rng.permutation(data.splits["train"])
    names = data.label_names
    lines = [",".join(("id", "given", "decision"))]
    for place, row in enumerate(rows):
        entry = data.entries[row]
        decision = relabel.DROP
        if place < count:
            others = [name for name in names if name != entry.label]
            drawn = others[rng.integers(len(others))]
            decision = drawn if place < NOISE * count else relabel.KEEP
        lines.append(f"{entry.id},{entry.label},{decision}")
    return "\n".join(lines) + "\n"


def run_one(method: str, settings: Settings, folder: Path, reads_test: bool) -> np.ndarray | None:
    """Trains one run, prints its row, and returns whether each test image is recognized."""
    setattr(losses, "image_losses", LOSSES.get(method, PLAIN))  # noqa: B010 - what a step calls
    run = train(settings, folder)
    scores = [
        float(row["validation_accuracy"]) for row in summary_csv.read(folder / summary_csv.FILE)
    ]
    cells = [method, str(settings.seed), f"{max(scores):.4f}", f"{scores[-1]:.4f}"]
    correct = None
    if reads_test:
        other = evaluate.OtherData(relabel="none")
        predictions = evaluate.run_evaluation(run, "test", other).predictions
        correct = predictions.predicted == predictions.labels
        cells.append(f"{correct.mean():.4f}")
    print(f"| {' | '.join(cells)} |", flush=True)
    return correct


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data_dir", help="folder of prepared data sets")
    parser.add_argument(
        "--methods", default=",".join((*OPTIONS, *LOSSES)), help="with commas between them"
    )
    parser.add_argument("--seeds", default="0", help="with commas between them")
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--test", action="store_true", help="read test, too")
    options = parser.parse_args()
    quiet_orbax()
    compile_cache.enable()
    data = prepare.prepare("fer2013", data_dir=options.data_dir)
    table = files.write_text(options.out / "noisy.csv", noisy_table(data, options.images))
    overrides = [
        *OVERRIDES, f"data.relabel={table}", f"train.epochs={options.epochs}",
        *([f"data.dir={options.data_dir}"] if options.data_dir else []),
    ]  # fmt: skip
    found: dict[str, list[np.ndarray]] = {}
    for seed in options.seeds.split(","):
        for method in options.methods.split(","):
            method_override = OPTIONS.get(method, OPTIONS["cross_entropy"])
            settings = configuration.load_settings(
                "fer2013", [*overrides, method_override, f"seed={seed}"]
            )
            correct = run_one(method, settings, options.out / f"{method}_{seed}", options.test)
            if correct is not None:
                found.setdefault(method, []).append(correct)
    if len(found) > 1:
        means = np.array([np.mean(seeds, axis=0) for seeds in found.values()])
        for pair in paired.compare(means, [""] * means.shape[1]):
            first, second = (list(found)[row] for row in (pair.first, pair.second))
            between = pair.interval and f"{pair.interval.low:+.4f} to {pair.interval.high:+.4f}"
            print(f"{first} - {second}: {pair.difference:+.4f} ({between})")


if __name__ == "__main__":
    with exit_cleanly():
        main()
