"""The Python interface to a trained run.

    import fer_jax

    model = fer_jax.load("runs/demo")  # fer_jax.load() is the shipped model
    for prediction in model.predict(["anna.jpg", "group.jpg"], faces="all"):
        for face in prediction.faces:
            print(prediction.source, face.box, face.label, face.probabilities)

    table = fer_jax.to_frame(model.predict(paths))  # pandas, a row per face
    features = model.embed(paths)                   # float32[N, D]

Face detection, cropping and normalization come from the run directory. For folders, videos and
cameras use `fer-jax predict`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_jax import buckets, published, run_dir
from fer_jax import plugins as own_parts
from fer_jax.inference.model import Model
from fer_jax.inference.results import Face, Prediction, to_frame

__all__ = ["Face", "Model", "Prediction", "load", "to_frame"]


def load(folder: str | os.PathLike[str] | None = None, plugins: Sequence[str] = ()) -> Model:
    """Opens a run directory, such as "runs/demo" or "gs://bucket/runs/demo", with its best weights.

    "hub:OWNER/NAME@REVISION" is a published run of the Hugging Face Hub, which is downloaded once;
    the files of a published run are compared with its manifest. Without a folder it opens the
    shipped model and says so on stderr; `load("ferplus")` says nothing.

    `plugins` are imported before: .py files or modules with your own parts that the run needs.

    Raises:
      UserError: no run, a run of a newer fer_jax, no intact checkpoint, a missing plugin, or
        files of a published run that are not those of its manifest.
    """
    own_parts.load(plugins)
    if isinstance(folder, str) and folder.startswith(published.HUB):
        folder = published.download(folder)
    path = run_dir.DEFAULT_RUN if folder is None else Path(folder)
    if isinstance(folder, str) and buckets.is_url(folder):
        path = run_dir.find_run(folder)
    published.verify(path)
    run = run_dir.open_run(path)
    if folder is None:
        print(run_dir.introduce(run), file=sys.stderr)
    return Model(run)
