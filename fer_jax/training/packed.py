"""A run's weights as one file, without optimizer state.

The runs that come with the package have this file, in float16, instead of checkpoints, and so do
published runs, in float32. Computation is in float32, as with checkpoints.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors.numpy

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.run_dir import PUBLISHED_WEIGHTS, WEIGHTS, Run

_METADATA = "fer_jax"  # key of the file's metadata, as in ported files
_LENGTH_BYTES = 8  # of a safetensors header's length


@dataclasses.dataclass(frozen=True)
class Packed:
    """The content of a packed file.

    Attributes:
      variables: params and batch_stats, float32 arrays on the host.
      step: of the run, of these weights.
      averaged: whether they are the moving average of the weights.
      seconds: of training until then.
    """

    variables: dict[str, Any]
    step: int
    averaged: bool
    seconds: float


def write(
    folder: Path, content: Packed, name: str = WEIGHTS, dtype: type[np.floating] = np.float16
) -> str:
    """Writes the file into a run directory and returns its SHA-256.

    Args:
      folder: the run directory.
      content: to write.
      name: of the file, `WEIGHTS` or `PUBLISHED_WEIGHTS`.
      dtype: of the arrays in it.

    Raises:
      UserError: a value that `dtype` cannot represent, or a folder that cannot be written.
    """
    flat = flax.traverse_util.flatten_dict(content.variables, sep="/")
    arrays = {}
    for key, array in flat.items():
        with np.errstate(over="ignore"):
            arrays[key] = np.ascontiguousarray(array, dtype)
        if not np.isfinite(arrays[key]).all():
            raise UserError(
                f"expected weights within {np.finfo(dtype).max:g}, found larger ones or NaN "
                f"in {key}; ship another run"
            )
    facts = {"step": content.step, "averaged": content.averaged, "seconds": content.seconds}
    data = safetensors.numpy.save(arrays, {_METADATA: json.dumps(facts)})
    files.write_bytes(folder / name, data)
    return hashlib.sha256(data).hexdigest()


def read(run: Run) -> Packed:
    """Reads the file of a packed run.

    Its digest in run.json says that it belongs to the run's network; shapes are not compared,
    because tracing the network for them takes a third of a second.

    Raises:
      UserError: the file is missing or damaged.
    """
    published = run.folder / PUBLISHED_WEIGHTS
    path = published if published.exists() else run.folder / WEIGHTS
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != run.packed:
            raise ValueError("its content differs from what was saved")
        arrays = safetensors.numpy.load(data)
        header = json.loads(data[_LENGTH_BYTES:][: int.from_bytes(data[:_LENGTH_BYTES], "little")])
        facts = json.loads(header["__metadata__"][_METADATA])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(
            f"the weights {path} cannot be read ({error}); restore the file or reinstall fer_jax"
        ) from error
    flat = {name: array.astype(np.float32) for name, array in arrays.items()}
    variables = {"batch_stats": {}, **flax.traverse_util.unflatten_dict(flat, sep="/")}
    return Packed(variables, facts["step"], facts["averaged"], facts["seconds"])
