"""A ported file into a network: what it is, and its arrays in the place of random ones.

Heads stay as they were initialised. Which file a run uses is published.py's and the
configuration's; how a file is ported is port.py's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from fer_jax.data.preprocess import InputFormat
from fer_jax.errors import UserError

METADATA = "fer_jax"
"""Key of a ported file's metadata, which is JSON."""

FORMAT = 1
"""Of that JSON."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """A ported file.

    Attributes:
      path: of the file.
      sha256: of the file, hexadecimal.
      model: the network it is of.
      source: name of the file it was ported from.
      source_sha256: of that file.
      layout: the kind of that file.
      input_format: what the network expects of pixels.
    """

    path: Path
    sha256: str
    model: str
    source: str
    source_sha256: str
    layout: str
    input_format: InputFormat

    @property
    def normalization(self) -> tuple[str, InputFormat]:
        """How the network saw pixels, as `Preprocessing` names it."""
        return "weights", self.input_format

    def to_json(self) -> dict[str, Any]:
        """As a run directory keeps it, to know the weights again and to name them."""
        return {
            "file": self.path.name,
            "sha256": self.sha256,
            "source": self.source,
            "source_sha256": self.source_sha256,
            "layout": self.layout,
        }


def open_weights(path: Path, model: str) -> Weights:
    """Reads what a ported file says of itself.

    Args:
      path: a file that port_weights wrote.
      model: the network that it must be of.

    Raises:
      UserError: no such file, a file that is not ported, a damaged one, or another network's.
    """
    command = f"fer-jax port-weights {path} --model {model} --out FILE.safetensors"
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with safetensors.safe_open(path, framework="numpy") as content:
            stored = json.loads((content.metadata() or {})[METADATA])
        if stored["format"] > FORMAT:
            raise UserError(f"{path} was ported by a newer fer_jax; upgrade fer_jax")
        weights = Weights(
            path=path,
            sha256=sha256,
            model=stored["model"],
            source=stored["source"],
            source_sha256=stored["source_sha256"],
            layout=stored["layout"],
            input_format=InputFormat(**stored["input_format"]),
        )
    except FileNotFoundError:
        raise UserError(
            f"expected ported weights at {path}, found no file; make it with: "
            f"fer-jax port-weights SOURCE --model {model} --out {path}"
        ) from None
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            f"expected whole ported weights at {path}, found something else "
            f"({type(error).__name__}: {error}); port it first: {command}"
        ) from error
    if weights.model != model:
        raise UserError(
            f"the weights {path} are of {weights.model}, the network is {model}; "
            f"give weights of {model}, or --config.model.name={weights.model}"
        )
    return weights


def load_into(
    weights: Weights, params: Mapping[str, Any], batch_stats: Mapping[str, Any]
) -> tuple[Any, Any, tuple[str, ...]]:
    """Replaces the backbone's arrays by the file's.

    Args:
      weights: as `open_weights` gave them.
      params: of the whole network, freshly initialised.
      batch_stats: likewise.

    Returns:
      params and batch_stats with the file's arrays, and the names of what was loaded; all
      else is what was given.

    Raises:
      UserError: the file changed since it was opened, or its arrays do not fit.
    """
    content = weights.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise UserError(f"the weights {weights.path} changed while they were read; start again")
    arrays = safetensors.numpy.load(content)
    state = {"params": params, "batch_stats": batch_stats}
    flat = flax.traverse_util.flatten_dict(state, keep_empty_nodes=True, sep="/")
    _check_fit(weights, arrays, flat)
    flat |= {name: jnp.asarray(array) for name, array in arrays.items()}
    merged = flax.traverse_util.unflatten_dict(flat, sep="/")
    return merged["params"], merged["batch_stats"], tuple(sorted(arrays))


def _check_fit(weights: Weights, arrays: Mapping[str, np.ndarray], flat: Mapping[str, Any]) -> None:
    backbone = {name for name in flat if "/backbone/" in name}
    unfit = sorted(backbone ^ arrays.keys())
    unfit += [
        f"{name} {arrays[name].shape} instead of {flat[name].shape}"
        for name in sorted(backbone & arrays.keys())
        if arrays[name].shape != flat[name].shape
    ]
    if unfit:
        raise UserError(
            f"the weights {weights.path} do not fit the network {weights.model}: "
            f"{', '.join(unfit[:3])}{' ...' if len(unfit) > 3 else ''}; port them again with "
            "this fer_jax, or set the network's fields as they were"
        )
