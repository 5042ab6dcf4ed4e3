"""Which parts of a network do not learn.

A frozen part's parameters stay bit for bit as they are, the optimizer keeps no memory
for them, and their BatchNorm normalises with its stored statistics, in training too:
statistics that drift under weights that do not would be another network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from fer_jax.errors import UserError

NONE, BACKBONE = "none", "backbone"

Path = tuple[str, ...]
"""Names of a module from the network down, such as ("backbone", "mixed_6a")."""


@dataclasses.dataclass(frozen=True)
class Frozen:
    """The parts that do not learn.

    Attributes:
      blocks: paths of modules; everything below them is frozen with them.
    """

    blocks: frozenset[Path] = frozenset()

    def covers(self, path: Path) -> bool:
        """Whether the module or parameter at `path` is frozen."""
        return any(path[:depth] in self.blocks for depth in range(1, len(path) + 1))

    def learning(self, params: Any) -> Any:
        """A tree of bools in the form of `params`: True where a parameter learns."""

        def learns(path: tuple[Any, ...], _: Any) -> bool:
            return not self.covers(tuple(key.key for key in path))

        return jax.tree_util.tree_map_with_path(learns, params)

    def optimizer(self, inner: optax.GradientTransformation) -> optax.GradientTransformation:
        """`inner` for the parameters that learn; no state is kept for the others."""
        return optax.masked(inner, self.learning) if self.blocks else inner

    def stop_gradients(self, params: Any) -> Any:
        """`params` whose frozen leaves ask for no gradient, so that none is computed."""
        return self._choose(params, params, jax.tree.map(jax.lax.stop_gradient, params))

    def apply_updates(self, params: Any, updates: Any) -> Any:
        """The updated parameters; frozen ones are the very same arrays."""
        return self._choose(params, optax.apply_updates(params, updates), params)

    def inference_norms(self) -> contextlib.AbstractContextManager[Any]:
        """While entered, frozen parts run as in inference: with their stored statistics.

        A block is told by its argument `train`, because blocks of one form may share one
        traced function, which sees the layers of the first of them only.
        """

        def intercept(
            call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            if context.method_name == "__call__" and self.covers(context.module.path):
                if isinstance(context.module, nn.BatchNorm):
                    kwargs = {**kwargs, "use_running_average": True}
                elif "train" in inspect.signature(context.orig_method).parameters:
                    bound = inspect.signature(context.orig_method).bind(*args, **kwargs)
                    bound.arguments["train"] = False
                    args, kwargs = bound.args, bound.kwargs
            return call(*args, **kwargs)

        return nn.intercept_methods(intercept)

    def _choose(self, params: Any, if_learning: Any, if_frozen: Any) -> Any:
        if not self.blocks:
            return if_learning
        return jax.tree.map(
            lambda learns, new, old: new if learns else old,
            self.learning(params),
            if_learning,
            if_frozen,
        )


def find_blocks(model: nn.Module, size: int) -> tuple[Path, ...]:
    """The network's blocks in the order in which pictures pass them.

    Blocks are the children of its `backbone`, and of the network itself otherwise.

    Args:
      model: takes float images [B, size, size, 3] and `train`.
      size: side of the input, pixels.
    """
    seen: dict[Path, None] = {}  # in order of insertion

    def record(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        path = context.module.path
        if context.method_name == "__call__" and path and path != (BACKBONE,):
            seen.setdefault(path[: 2 if path[0] == BACKBONE else 1])
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    with nn.intercept_methods(record):
        variables = jax.eval_shape(
            lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
        )
    with_parameters = {
        tuple(key.key for key in path)[: 2 if path[0].key == BACKBONE else 1]
        for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    return tuple(path for path in seen if path in with_parameters)


def freeze(name: str, blocks: tuple[Path, ...]) -> Frozen:
    """What `config.model.freeze` means for a network.

    Args:
      name: "none", "backbone", or a block: it and all before it are frozen. "block3" means
        the last of block3_conv1, block3_conv2, ...
      blocks: the network's, in order.

    Raises:
      UserError: the network has no such block, or nothing would be left to learn.
    """
    if name == NONE:
        return Frozen()
    matches = [
        index
        for index, path in enumerate(blocks)
        if (path[0] == BACKBONE if name == BACKBONE else _is_of(path[-1], name))
    ]
    known = [path[-1] for path in blocks]
    if not matches:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"expected none, backbone or a block of the network for model.freeze, found "
            f"{name!r}{hint} (blocks in order: {', '.join(known)})"
        )
    if matches[-1] == len(blocks) - 1:
        raise UserError(
            f"model.freeze={name} leaves nothing to learn; freeze up to an earlier block "
            f"(in order: {', '.join(known)})"
        )
    return Frozen(frozenset(blocks[: matches[-1] + 1]))


def _is_of(block: str, name: str) -> bool:
    return block == name or block.startswith(f"{name}_")
