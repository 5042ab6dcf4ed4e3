"""Loads a ported file into a network's backbone; the head is left as initialized.

port.py writes these files; published.py and the configuration choose which one a run uses.
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
"""Key of a ported file's JSON metadata."""

FORMAT = 1
"""Version of that metadata."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """A ported file.

    Attributes:
      path: of the file.
      sha256: hexadecimal digest of the file.
      model: name of the network.
      source: name of the file it was ported from.
      source_sha256: hexadecimal digest of that file.
      layout: layout of that file, see `source.Source`.
      input_format: the pixel format that the weights expect.
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
        """The arguments of `Preprocessing` that reproduce the expected input."""
        return "weights", self.input_format

    def to_json(self) -> dict[str, Any]:
        """Returns what a run directory stores to identify the weights."""
        return {
            "file": self.path.name,
            "sha256": self.sha256,
            "source": self.source,
            "source_sha256": self.source_sha256,
            "layout": self.layout,
        }


def open_weights(path: Path, model: str) -> Weights:
    """Reads the metadata of a ported file.

    Args:
      path: a file written by `fer-jax port-weights`.
      model: name of the expected network.

    Raises:
      UserError: a missing or damaged file, one that is not ported, or one of another network.
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
            f"expected ported weights at {path}, found no file; create it with: "
            f"fer-jax port-weights SOURCE --model {model} --out {path}"
        ) from None
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            f"expected a complete file of ported weights at {path}, found another kind of file "
            f"({type(error).__name__}: {error}); port it first: {command}"
        ) from error
    if weights.model != model:
        raise UserError(
            f"expected weights of {model} in {path}, found weights of {weights.model}; "
            f"use weights of {model}, or --config.model.name={weights.model}"
        )
    return weights


def load_into(
    weights: Weights, params: Mapping[str, Any], batch_stats: Mapping[str, Any]
) -> tuple[Any, Any, tuple[str, ...]]:
    """Replaces the arrays of the backbone with those of the file.

    Args:
      weights: from `open_weights`.
      params: of the whole network.
      batch_stats: of the whole network.

    Returns:
      params and batch_stats with the file's arrays, and the names of the replaced arrays.

    Raises:
      UserError: the file changed since it was opened, or its arrays do not fit the network.
    """
    content = weights.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise UserError(f"the weights {weights.path} changed while being read; run again")
    arrays = safetensors.numpy.load(content)
    state = {"params": params, "batch_stats": batch_stats}
    flat = flax.traverse_util.flatten_dict(state, keep_empty_nodes=True, sep="/")
    _check_fit(weights, arrays, flat)
    flat |= {name: jnp.asarray(array) for name, array in arrays.items()}
    merged = flax.traverse_util.unflatten_dict(flat, sep="/")
    return merged["params"], merged["batch_stats"], tuple(sorted(arrays))


def _check_fit(weights: Weights, arrays: Mapping[str, np.ndarray], flat: Mapping[str, Any]) -> None:
    backbone = {name for name in flat if "/backbone/" in name}
    problems = sorted(backbone ^ arrays.keys())
    problems += [
        f"{name} {arrays[name].shape} instead of {flat[name].shape}"
        for name in sorted(backbone & arrays.keys())
        if arrays[name].shape != flat[name].shape
    ]
    if problems:
        raise UserError(
            f"the weights {weights.path} do not fit the network {weights.model}: "
            f"{', '.join(problems[:3])}{' ...' if len(problems) > 3 else ''}; port them again with "
            "this version of fer_jax, or reset the changed config.model fields"
        )
