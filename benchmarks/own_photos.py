"""`fer-jax train --data FOLDER` beside HOG features with logistic regression, on rendered photos.

    python -m benchmarks.own_photos OUT [--people 9,22,215] [--seeds 3] [--renderer_seed 601]

Renders frontal portraits of 128 pixels into OUT as person/expression/*.jpg: 7 photos of each of 9
people (63), 14 of each of 22 (308) and of 215 (3,010). Both learn from the same crops of the same
training people, and choose on the same validation people: HOG its regularization, the network its
checkpoint. Tested on the folder's own test people, and on 40 people of another renderer seed, whose
interval is that of the mean difference over people. Needs scikit-learn. Resumes what OUT contains.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import scipy.stats

from benchmarks import baselines
from fer_jax import run_dir
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records, decode_all, open_split
from fer_jax.experiments.evaluate import predict_records
from fer_jax.report.intervals import CONFIDENCE_LEVEL
from fer_jax.training.build import data_arguments
from tfds_builders import prepare, protocols
from tfds_builders.prepared import Prepared
from tfds_builders.synthface import sets
from tfds_builders.synthface.spec import Spec

OTHERS = 40  # people
_OTHER_SEED = 1000  # added to the renderer's seed


def render_photos(out: Path, seed: int, people: int, sessions: int) -> Path:
    """Renders photos as <person>/<expression>/*.jpg and returns their folder."""
    folder = out / f"photos_{seed}_{people}"
    if folder.is_dir():
        return folder
    spec = Spec(
        "photos", seed, people, sessions=sessions, wild=0.3, fill=(0.45, 0.6), glasses=0.2
    )  # fmt: skip
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for record in sets.read(spec, sets.generate(spec, out / "rendered")):
        path = partial / record.truth["subject"] / record.truth["expression"]
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{record.truth['id']}.jpg").write_bytes(record.jpeg)
    return partial.rename(folder)


def train(out: Path, photos: Path, seed: int) -> run_dir.Run:
    """Trains with the documented command; other people are in each split of another seed."""
    folder = out / "runs" / f"{photos.name}_{seed}"
    if not (folder / "report" / "report.json").is_file():
        subprocess.run(
            [
                sys.executable, "-m", "fer_jax", "train", "--data", str(photos),
                "--workdir", str(folder), f"--config.data.dir={out / 'data'}",
                f"--config.seed={seed}", f"--config.data.protocol_seed={seed}",
            ],
            check=True,
        )  # fmt: skip
    return run_dir.open_run(folder)


@dataclasses.dataclass(frozen=True)
class Score:
    """Which images each method recognizes.

    Attributes:
      network: bool[N].
      hog: bool[N].
      groups: the person of each image.
    """

    network: np.ndarray
    hog: np.ndarray
    groups: tuple[str, ...]


def compare(run: run_dir.Run, others: Path) -> dict[str, Score]:
    """Returns the scores on the folder's test people ("own") and on other people ("others")."""
    arguments = data_arguments(run.settings)
    own = prepare.prepare(**arguments)
    # One protocol seed, so that the images have one order.
    other = prepare.prepare(**arguments | {"manual_dir": str(others), "seed": 0})
    tested = {
        "own": [(own, protocols.TEST)],
        "others": [(other, split) for split in baselines.SPLITS],
    }
    hog = _fit_hog(own)
    scores = {}
    for name, splits in tested.items():
        parts = []
        for data, split in splits:
            records = decode_all(open_split(data, split, run.preprocessing))
            _, probabilities = predict_records(run, records)
            small = _for_hog(data, split)
            right = probabilities.argmax(axis=1) == records.labels
            parts.append((right, hog.predict(baselines.hog(small.images)) == small.labels, records))
        network, by_hog = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
        groups = tuple(group for *_, records in parts for group in records.groups)
        scores[name] = Score(network, by_hog, groups)
    return scores


def _for_hog(data: Prepared, split: str) -> Records:
    return decode_all(open_split(data, split, Preprocessing(baselines.SIDE, "unit")))


def _fit_hog(data: Prepared) -> baselines.Classifier:
    training, validation = (_for_hog(data, split) for split in baselines.SPLITS[:2])
    return baselines.fit(
        (baselines.hog(training.images), training.labels),
        (baselines.hog(validation.images), validation.labels),
    )


def table_row(photos: int, scores: list[dict[str, Score]]) -> str:
    """Returns a row: means over the seeds, and the interval of the difference on other people."""
    own, others = ([score[name] for score in scores] for name in ("own", "others"))
    cells = [f"{photos:,}", str(len(scores))]
    for group in (own, others):
        cells += [
            f"{np.mean([getattr(score, method).mean() for score in group]):.3f}"
            for method in ("network", "hog")
        ]
    gains = np.mean([score.network.astype(float) - score.hog for score in others], axis=0)
    names, index = np.unique(others[0].groups, return_inverse=True)
    by_person = np.bincount(index, gains) / np.bincount(index)
    error = by_person.std(ddof=1) / np.sqrt(len(names))
    margin = error * scipy.stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, len(names) - 1)
    mean = by_person.mean()
    cells.append(f"{mean:+.3f} [{mean - margin:+.3f}, {mean + margin:+.3f}]")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints a table with a row per folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for photos, prepared data and runs")
    parser.add_argument("--people", default="9,22,215", help="people in each folder")
    parser.add_argument("--seeds", type=int, default=3, help="trainings on each folder")
    parser.add_argument("--renderer_seed", type=int, default=601, help="another has other people")
    options = parser.parse_args()
    out, seed = options.out.absolute(), options.renderer_seed
    others = render_photos(out, seed + _OTHER_SEED, OTHERS, 1)
    rows = []
    for people in map(int, options.people.split(",")):
        photos = render_photos(out, seed, people, 1 if people < 10 else 2)
        count = sum(1 for _ in photos.glob("*/*/*.jpg"))
        scores = [compare(train(out, photos, number), others) for number in range(options.seeds)]
        rows.append(table_row(count, scores))
    print(
        "| photos | seeds | own test people: network | HOG | other people: network | HOG | gain |"
    )
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
