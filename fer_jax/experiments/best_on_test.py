"""What choosing the epoch on test would be worth: a figure that must not be reported.

    fer-jax evaluate runs/demo --best_epoch_on_test

Many papers choose the checkpoint with the best score on test. This shows how much that adds for a
run. Training never reads test: the checkpoints of all validations are evaluated afterwards. The
result has a folder of its own, RUN/best_on_test, without a report.json: neither `summary` nor
`publish` reads it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from fer_jax import files, run_dir
from fer_jax.data.feed import HostFeed
from fer_jax.data.records import decode_all
from fer_jax.data.store import HostStore
from fer_jax.errors import UserError
from fer_jax.experiments.evaluate import check_labels, open_data
from fer_jax.experiments.reframing import open_framed
from fer_jax.monitor import summary_csv
from fer_jax.monitor.console import wrap
from fer_jax.report.page import template
from fer_jax.report.scores import accuracy
from fer_jax.run_dir import Run
from fer_jax.runtime import sharding, xla_options
from fer_jax.settings import MIN_CHECKPOINTS
from fer_jax.training.evaluation import Evaluator, make_eval_function
from fer_jax.training.restore import load_trained

FOLDER = "best_on_test"


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One validation.

    Attributes:
      step: of its checkpoint.
      validation: accuracy on validation, as training logged it.
      test: accuracy on test.
    """

    step: int
    validation: float
    test: float


@dataclasses.dataclass(frozen=True)
class BestOnTest:
    """The test accuracy of every validation's checkpoint.

    Attributes:
      run: name of the run.
      dataset: evaluated data set and protocol.
      count: number of test images.
      chosen: step that validation chose.
      epochs: by step.
    """

    run: str
    dataset: str
    count: int
    chosen: int
    epochs: tuple[Epoch, ...]

    @property
    def reported(self) -> Epoch:
        """The epoch that validation chose, whose score is the run's."""
        return next(one for one in self.epochs if one.step == self.chosen)

    @property
    def best(self) -> Epoch:
        """The first epoch with the best test accuracy."""
        return max(self.epochs, key=lambda one: one.test)

    @property
    def stamp(self) -> str:
        """The result, marked as not to be reported."""
        gain = 100 * (self.best.test - self.reported.test)
        return (
            f"NOT TO BE REPORTED: the best epoch on test would have been {self.best.test:.4f} "
            f"(step {self.best.step:,}, of {len(self.epochs)} checkpoints). Validation chose step "
            f"{self.chosen:,}, with {self.reported.test:.4f} on test. The difference of "
            f"{gain:.1f} points comes from choosing on test."
        )

    def remark(self, epoch: Epoch) -> str:
        """What is special about an epoch, for the table."""
        parts = ["validation chose it"] if epoch == self.reported else []
        return ", ".join([*parts, "best on test"] if epoch == self.best else parts)


def find_best_on_test(run: Run) -> BestOnTest:
    """Evaluates the checkpoint of every validation on the run's test split.

    Raises:
      UserError: a checkpoint is missing or damaged, or the data cannot be used.
    """
    validations = _validations(run)
    data = open_data(run)
    records = decode_all(open_framed(run, data, "test").split)
    # Only the classes are scored.
    records = dataclasses.replace(records, extras=run.heads.unknown(len(records)))
    check_labels(run, records.label_names)
    mesh = sharding.one_device_mesh()
    chosen = load_trained(run, mesh)
    evaluator = Evaluator(
        make_eval_function(
            chosen.model, run.preprocessing, run.settings.eval.tta, heads=run.heads
        ),
        HostFeed(HostStore(records), mesh), len(records), run.settings.eval.batch_size, mesh,
        xla_options.for_model(chosen.model),
    )  # fmt: skip
    epochs = []
    for step, validation in validations.items():
        confusion = evaluator(load_trained(run, mesh, step).variables).confusion
        epochs.append(Epoch(step, validation, float(accuracy(confusion))))
    return BestOnTest(run.full_name, data.full_name, len(records), chosen.step, tuple(epochs))


def report_best_on_test(run: Run) -> Path:
    """Evaluates as above, writes index.html and best_on_test.json, and prints the stamped line."""
    found = find_best_on_test(run)
    folder = run.output / FOLDER
    content = {"warning": found.stamp, **dataclasses.asdict(found)}
    files.write_text(folder / "best_on_test.json", json.dumps(content, indent=2) + "\n")
    page = template("best_on_test.html").render(found=found, warnings=run_dir.report_warnings(run))
    path = files.write_text(folder / "index.html", page)
    print(*wrap(found.stamp), path, sep="\n")
    return path


def _validations(run: Run) -> dict[int, float]:
    """Validation accuracy by step, of all validations.

    Raises:
      UserError: not every validation has a checkpoint.
    """
    rows = summary_csv.read(run.folder / summary_csv.FILE)
    found = {int(row["step"]): float(row["validation_accuracy"]) for row in rows}
    missing = [step for step in found if not (run.checkpoints / str(step)).is_dir()]
    if missing or not found:
        raise UserError(
            f"expected a checkpoint of every validation in {run.folder}, found "
            f"{len(found) - len(missing)} of {len(found)}; train a run that keeps them: "
            f"--config.train.keep={max(len(found), MIN_CHECKPOINTS)}"
        )
    return found
