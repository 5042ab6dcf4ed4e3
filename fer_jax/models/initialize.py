"""Initializes a network's variables as its modules declare them.

`model.init` compiles a program for every array shape, which takes seconds for a network of 244
convolutions. Here the network is only traced. The trace shows which arrays come from our
Glorot initializer or are constant; NumPy creates those, and JAX computes only the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal, Var

from fer_jax.models.layers.initializers import fer_jax_glorot_uniform, numpy_glorot_uniform
from fer_jax.models.registry import shared_blocks

_GLOROT, _OTHER = "glorot", "other"

_Origin = str | int | np.ndarray
"""The origin of an array, as `_origin` returns it."""


def initialize(model: nn.Module, size: int, seed: int) -> Any:
    """Returns the initial variables of a network as NumPy arrays.

    NumPy draws the arrays declared with `layers.initializers.glorot_uniform` from the seed and
    their path. All others equal those of `model.init(jax.random.key(seed), images, train=False)`
    with zeros as images.

    Args:
      model: called with float32 images [B, size, size, 3] and `train`.
      size: side of the images, pixels.
      seed: of the random values.
    """
    shapes, origins = _trace(model, size)
    paths_and_leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)

    def value(path_and_leaf: Any, origin: _Origin) -> np.ndarray | None:
        path, leaf = path_and_leaf
        if isinstance(origin, np.ndarray):
            return np.full(leaf.shape, origin, leaf.dtype)
        if origin == _GLOROT:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return numpy_glorot_uniform(name, leaf.shape, leaf.dtype, seed)
        return None

    with ThreadPoolExecutor() as threads:  # NumPy releases the GIL while it draws
        values = list(threads.map(value, paths_and_leaves, origins))
    others = [index for index, array in enumerate(values) if array is None]
    for index, array in zip(others, _drawn_by_jax(model, size, seed, others), strict=True):
        values[index] = array
    return jax.tree_util.tree_unflatten(structure, values)


def abstract_variables(model: nn.Module, size: int) -> Any:
    """Returns the shapes and dtypes of the variables; computes nothing."""
    return _trace(model, size)[0]


def _images(size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


@functools.lru_cache(maxsize=1)
def _trace(model: nn.Module, size: int) -> tuple[Any, list[_Origin]]:
    """Returns the variables' shapes, and the origin of each leaf."""
    init = functools.partial(shared_blocks(model).init, train=False)
    closed, shapes = jax.make_jaxpr(init, return_shape=True)(jax.random.key(0), _images(size))
    equations = functools.cache(_equations)  # cached: shared blocks have one jaxpr
    return shapes, [_origin(output, closed.jaxpr, equations) for output in closed.jaxpr.outvars]


def _equations(jaxpr: Jaxpr) -> dict[Var, tuple[Any, int]]:
    """Maps each variable to the equation that computes it, and its index in the results."""
    return {
        variable: (equation, number)
        for equation in jaxpr.eqns
        for number, variable in enumerate(equation.outvars)
    }


def _origin(output: Var | Literal, jaxpr: Jaxpr, equations: Callable[[Jaxpr], Any]) -> _Origin:
    """Recognizes calls of our Glorot and constants, also inside `jax.jit` and remat.

    Returns:
      `_GLOROT`, the constant, the index of the input that `output` equals, or `_OTHER`.
    """
    if isinstance(output, Literal):
        return np.asarray(output.val)
    if output in jaxpr.invars:
        return jaxpr.invars.index(output)
    if output not in equations(jaxpr):
        return _OTHER
    equation, number = equations(jaxpr)[output]
    primitive, operands = equation.primitive.name, equation.invars
    if primitive == "broadcast_in_dim" and isinstance(operands[0], Literal):
        return np.asarray(operands[0].val)
    # JAX has renamed these primitives before. An unknown one costs only time.
    if primitive not in ("jit", "pjit", "checkpoint", "remat2"):
        return _OTHER
    if equation.params.get("name") == fer_jax_glorot_uniform.__name__:
        return _GLOROT
    inner = equation.params["jaxpr"]
    inner = getattr(inner, "jaxpr", inner)  # closed for jit, open for remat
    origin = _origin(inner.outvars[number], inner, equations)
    return _origin(operands[origin], jaxpr, equations) if isinstance(origin, int) else origin


def _drawn_by_jax(
    model: nn.Module, size: int, seed: int, leaves: Sequence[int]
) -> list[np.ndarray]:
    """Returns the leaves of `model.init` at these indices; one program computes only them."""
    if not leaves:
        return []

    @jax.jit
    def draw(key: jax.Array) -> list[jax.Array]:
        images = jnp.zeros(_images(size).shape, _images(size).dtype)
        values = jax.tree.leaves(model.init(key, images, train=False))
        return [values[leaf] for leaf in leaves]

    return [np.asarray(value) for value in draw(jax.random.key(seed))]
