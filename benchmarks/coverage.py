"""Coverage of the report's 95 % intervals: how often they contain the true score, by simulation.

    python -m benchmarks.coverage [--trials 2000] [--people 5,8,10,15,20,30,50,100]
    python -m benchmarks.coverage --predictions RUN/report/predictions.csv

Each trial draws people and their images, and asks for the intervals of accuracy, balanced accuracy
and macro F1. Without a file, the people are simulated: they differ in how well each of their seven
expressions is recognized, and in the classes that the network favors on them. With a file, people
are drawn with replacement from its groups, whose scores are the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from fer_jax.report import predictions, scores
from fer_jax.report.intervals import Groups

CLASSES = 7
SHARES = np.array([0.17, 0.25, 0.17, 0.11, 0.14, 0.02, 0.14])  # FER2013's: one class is rare
NETWORKS = (1.0, 2.5, 5.0)  # mean logit of the true class: weak to strong
STATISTICS = (scores.accuracy, scores.balanced_accuracy, scores.macro_f1)
POPULATION = 100_000  # people behind the true scores

Draw = Callable[[int, np.random.Generator], np.ndarray]
"""Draws the confusion matrices of a number of people, int64[people, C, C]."""


def lab(people: int, _: np.random.Generator) -> np.ndarray:
    """One image of each person and class, as in KDEF's frontal view: int64[people, C]."""
    return np.ones((people, CLASSES), np.int64)


def wild(people: int, rng: np.random.Generator) -> np.ndarray:
    """1 to 100 images a person, of few classes, one class rare: int64[people, C]."""
    counts = np.maximum(1, rng.lognormal(np.log(12), 0.8, people)).astype(np.int64)
    shares = rng.dirichlet(8 * SHARES, people)
    return rng.multinomial(counts, shares)


def images(people: int, rng: np.random.Generator) -> np.ndarray:
    """One image a person, which is a set without known people: int64[people, C]."""
    return rng.multinomial(1, SHARES, people)


DATA = {"lab": lab, "wild": wild, "images": images}
"""Images of each person and class, by the kind of data."""


def probabilities(people: int, network: float, rng: np.random.Generator) -> np.ndarray:
    """Returns each person's confusion probabilities, float64[people, C, C]."""
    # The network is the same in every trial; people are not.
    of_network = np.random.default_rng(7)
    logits = of_network.normal(0, 0.7, (CLASSES, CLASSES))
    diagonal = np.arange(CLASSES)
    logits[diagonal, diagonal] = network + of_network.normal(0, 0.5, CLASSES)
    favored = rng.normal(0, 0.4, (people, 1, CLASSES))
    ability = rng.normal(0, 0.7, (people, 1)) + rng.normal(0, 0.7, (people, CLASSES))
    drawn = logits + favored
    drawn[:, diagonal, diagonal] += ability
    drawn = np.exp(drawn)
    return drawn / drawn.sum(axis=-1, keepdims=True)


def simulated(data: str, network: float) -> tuple[Draw, np.ndarray]:
    """Returns the draw of a simulated test set, and its true scores, float64[3]."""

    def draw(people: int, rng: np.random.Generator) -> np.ndarray:
        return rng.multinomial(DATA[data](people, rng), probabilities(people, network, rng))

    rng = np.random.default_rng(1)
    counts = DATA[data](POPULATION, rng)
    expected = np.einsum("pc,pck->ck", counts, probabilities(POPULATION, network, rng))
    return draw, _true_scores(expected)


def from_file(path: Path) -> tuple[Draw, np.ndarray]:
    """Returns the draw of people of a predictions.csv, and its scores, float64[3]."""
    groups = Groups.of(predictions.load(path))
    shares = groups.copies / groups.count

    def draw(people: int, rng: np.random.Generator) -> np.ndarray:
        return groups.confusions[rng.choice(len(shares), people, p=shares)]

    return draw, _true_scores(np.tensordot(groups.copies, groups.confusions, 1))


def coverage(draw: Draw, true: np.ndarray, people: int, trials: int) -> np.ndarray | None:
    """Returns how often each of the three intervals contains its true score, float64[3].

    None if there are too few people for an interval.
    """
    rng = np.random.default_rng(people)
    covered = np.zeros(len(STATISTICS))
    for _ in range(trials):
        groups = Groups(draw(people, rng), np.ones(people, np.int64), people, "subject")
        for index, statistic in enumerate(STATISTICS):
            interval = groups.interval(statistic)
            if interval is None:
                return None
            covered[index] += interval.low <= true[index] <= interval.high
    return covered / trials


def _true_scores(confusion: np.ndarray) -> np.ndarray:
    return np.array([float(statistic(confusion)) for statistic in STATISTICS])


def _print_table(
    title: str, columns: Sequence[tuple[Draw, np.ndarray]], people: Sequence[int], trials: int
) -> None:
    """Prints a Markdown table: a row per number of people, a column per network."""
    heads = ("true scores " + _joined(f"{score:.2f}" for score in true) for _, true in columns)
    print(f"\n| {title} | {' | '.join(heads)} |\n|{'---|' * (len(columns) + 1)}")
    for number in people:
        cells = []
        for draw, true in columns:
            found = coverage(draw, true, number, trials)
            cells.append(
                "no interval" if found is None else _joined(f"{100 * one:.1f}" for one in found)
            )
        print(f"| {number} | {' | '.join(cells)} |", flush=True)


def _joined(texts: Iterable[str]) -> str:
    return " / ".join(texts)


def main() -> None:
    """Prints a table per kind of data: percent covered of accuracy / UAR / macro F1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000, help="simulated test sets per cell")
    parser.add_argument("--people", default="5,8,10,15,20,30,50,100", help="people per test set")
    parser.add_argument("--predictions", type=Path, help="draw people from this predictions.csv")
    options = parser.parse_args()
    people = [int(number) for number in options.people.split(",")]
    if options.predictions:
        _print_table("people", [from_file(options.predictions)], people, options.trials)
        return
    for name in DATA:
        unit = "images" if name == "images" else f"{name}: people"
        columns = [simulated(name, network) for network in NETWORKS]
        _print_table(unit, columns, people, options.trials)


if __name__ == "__main__":
    main()
