"""Metrics at Weights & Biases and MLflow, beside TensorBoard: settings and numbers, no images.

The packages read their own environment: WANDB_PROJECT, WANDB_MODE, MLFLOW_TRACKING_URI,
MLFLOW_EXPERIMENT_NAME and so on. `trackers.json` in the run directory has the id of the run at
each, so that a resumed run goes on in the same one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.monitor.writers import Writer
from fer_jax.printable import printable

FILE = "trackers.json"
PROJECT = "fer_jax"
"""Project of Weights & Biases and experiment of MLflow, where the environment names none."""

_PACKAGES = {"wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy")}
_BATCH = 100  # parameters that MLflow takes at once


class WandbWriter:
    """Writes to a run of Weights & Biases.

    Args:
      folder: for its files, which an offline run consists of.
      run_id: of a run to go on with; None starts one.
      name: of the run.
      hparams: value by name.
    """

    def __init__(
        self, folder: Path, run_id: str | None, name: str, hparams: Mapping[str, Any]
    ) -> None:
        import wandb

        self.run_id = run_id or uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=self.run_id, resume="allow",
            name=name, dir=str(folder), config=dict(hparams),
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        # The package's own step only rises, and drops what a resumed run writes again and the
        # scores of a best step that is not the last.
        self._run.define_metric("*", step_metric="step")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""
        self._run.log({"step": step, **scalars})

    def close(self) -> None:
        """Waits until everything is written or sent."""
        self._run.finish()


class MlflowWriter:
    """Writes to a run of MLflow; arguments as of `WandbWriter`."""

    def __init__(
        self, folder: Path, run_id: str | None, name: str, hparams: Mapping[str, Any]
    ) -> None:
        del folder  # MLFLOW_TRACKING_URI is the place
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        if run_id is not None:
            self.run_id = run_id
            self._client.update_run(run_id, status="RUNNING")
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self._client.create_experiment(experiment)
        self.run_id = self._client.create_run(number, run_name=name).info.run_id
        params = [Param(key, str(value)) for key, value in hparams.items()]
        for first in range(0, len(params), _BATCH):
            self._client.log_batch(self.run_id, params=params[first : first + _BATCH])

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""
        now = int(1000 * time.time())
        metrics = [self._metric(name, float(one), now, step) for name, one in scalars.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self.run_id)


class Tracker:
    """The metric writer of a tracker: sends numbers, and is left out once it has failed."""

    def __init__(self, name: str, writer: WandbWriter | MlflowWriter) -> None:
        self._name, self._writer, self._is_lost = name, writer, False

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one number per name."""
        self._call(self._writer.write_scalars, step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Does nothing: images of people stay on this machine."""

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Does nothing: the texts name records."""

    def flush(self) -> None:
        """Does nothing: the packages have their own queues."""

    def close(self) -> None:
        """Waits until everything is sent."""
        self._call(self._writer.close)

    def _call(self, method: Callable[..., None], *arguments: Any) -> None:
        if self._is_lost:
            return
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001 - of packages without a common class
            self._is_lost = True
            line = f"note: {self._name} failed, and the run goes on without it: {error}"
            print(printable(line), file=sys.stderr)


_WRITERS: dict[str, Any] = {"wandb": WandbWriter, "mlflow": MlflowWriter}


def check_installed(names: Sequence[str]) -> None:
    """Checks the packages of trackers; imports none.

    Raises:
      UserError: a package is missing.
    """
    for name in names:
        for package in _PACKAGES[name]:
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"expected the package {package} for config.trackers={name}, found none; "
                    f"install it with: pip install 'fer-jax[{name}]'"
                )


def open_trackers(
    names: Sequence[str], folder: Path, run_name: str, hparams: Mapping[str, Any]
) -> list[Writer]:
    """Opens a run at each tracker, or the one that the run directory `folder` names.

    Args:
      names: keys of `_WRITERS`.
      folder: the run directory.
      run_name: for people.
      hparams: value by name.

    Raises:
      UserError: a package is missing, or a tracker cannot be reached.
    """
    check_installed(names)
    path = folder / FILE
    ids: dict[str, str] = json.loads(path.read_text()) if names and path.exists() else {}
    writers: list[Writer] = []
    for name in names:
        try:
            writer = _WRITERS[name](folder, ids.get(name), run_name, hparams)
        except Exception as error:
            raise UserError(
                f"expected {name} to open the run {ids.get(name, run_name)}, found "
                f"{type(error).__name__}: {error}; see its environment variables and login, leave "
                f"it out of config.trackers, or start another run there by deleting {path}"
            ) from error
        writers.append(Tracker(name, writer))
        if ids.get(name) != writer.run_id:
            ids[name] = writer.run_id
            files.write_text(path, json.dumps(ids) + "\n")
    return writers
