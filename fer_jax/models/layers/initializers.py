"""Initial values: those the networks declare, and the same drawn without compiling anything.

Every network here begins with Glorot's uniform kernels (Keras' default, which the published
networks were trained with), no bias, and normalisation that changes nothing. Flax draws such
values array by array, which takes seconds for a network of 244 convolutions, most of them for
programs of a single draw.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flax.linen as nn
import jax
import numpy as np

glorot_uniform = nn.initializers.glorot_uniform()

_CONSTANTS = {"bias": 0, "mean": 0, "scale": 1, "var": 1}


def draw(variables: Any, seed: int) -> Any:
    """Initial values of a network.

    Args:
      variables: a tree of arrays or their shapes, as `model.init` gives it; the last name on
        the way to an array says what it is.
      seed: an array's values follow from it and the array's path alone.

    Returns:
      The tree with NumPy arrays.

    Raises:
      ValueError: an array that is no kernel, bias, scale, mean or variance.
    """
    leaves, form = jax.tree_util.tree_flatten_with_path(variables)
    with ThreadPoolExecutor() as threads:  # NumPy draws outside of Python's lock
        values = threads.map(lambda leaf: _value(leaf[0], leaf[1], seed), leaves)
        return jax.tree_util.tree_unflatten(form, list(values))


def _value(path: Sequence[Any], leaf: Any, seed: int) -> np.ndarray:
    names = [key.key for key in path]
    if names[-1] in _CONSTANTS:
        return np.full(leaf.shape, _CONSTANTS[names[-1]], leaf.dtype)
    if names[-1] != "kernel":
        raise ValueError(
            f"expected a kernel, {', '.join(_CONSTANTS)}, found {'/'.join(names)}; "
            "add its initial value to fer_jax/models/layers/initializers.py"
        )
    digest = hashlib.sha256("/".join(names).encode()).digest()
    entropy = [seed & (2**64 - 1), int.from_bytes(digest[:16], "big")]
    drawn = np.random.default_rng(entropy).random(leaf.shape, np.float32)
    fans = math.prod(leaf.shape[:-2]) * (leaf.shape[-2] + leaf.shape[-1])
    limit = np.float32(math.sqrt(6 / fans))
    drawn *= 2 * limit
    drawn -= limit
    return drawn.astype(leaf.dtype, copy=False)
