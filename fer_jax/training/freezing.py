"""Freezes blocks of a network.

Frozen parameters stay bit-identical and have no optimizer state. Frozen BatchNorm layers use
their running statistics in training too: updating those would change the frozen network.
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
"""Path of a module in the network, such as ("backbone", "mixed_6a")."""


@dataclasses.dataclass(frozen=True)
class Frozen:
    """The frozen part of a network.

    Attributes:
      blocks: paths of frozen modules; their submodules are frozen too.
    """

    blocks: frozenset[Path] = frozenset()

    def covers(self, path: Path) -> bool:
        """Returns whether the module or parameter at `path` is frozen."""
        return any(path[:depth] in self.blocks for depth in range(1, len(path) + 1))

    def trainable(self, params: Any) -> Any:
        """Returns a tree of bools with the structure of `params`: True for trainable parameters."""

        def is_trainable(path: tuple[Any, ...], _: Any) -> bool:
            return not self.covers(tuple(key.key for key in path))

        return jax.tree_util.tree_map_with_path(is_trainable, params)

    def optimizer(self, inner: optax.GradientTransformation) -> optax.GradientTransformation:
        """Restricts `inner` to the trainable parameters; the others have no optimizer state."""
        return optax.masked(inner, self.trainable) if self.blocks else inner

    def stop_gradients(self, params: Any) -> Any:
        """Returns `params` with stopped gradients of frozen leaves, so that none are computed."""
        return self._choose(params, params, jax.tree.map(jax.lax.stop_gradient, params))

    def apply_updates(self, params: Any, updates: Any) -> Any:
        """Returns the updated parameters; frozen ones are the same arrays."""
        return self._choose(params, optax.apply_updates(params, updates), params)

    def inference_norms(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context in which frozen modules run as in inference, with running statistics.

        Blocks get `train=False`: identical blocks may share one traced function, so intercepting
        their layers would reach only those of the first block.
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

    def _choose(self, params: Any, if_trainable: Any, if_frozen: Any) -> Any:
        if not self.blocks:
            return if_trainable
        return jax.tree.map(
            lambda trainable, new, old: new if trainable else old,
            self.trainable(params),
            if_trainable,
            if_frozen,
        )


def find_blocks(model: nn.Module, size: int) -> tuple[Path, ...]:
    """Returns the paths of the network's blocks with parameters, in the order of the forward pass.

    Blocks are the children of `backbone` if the network has one, else of the network.

    Args:
      model: maps float images [B, size, size, 3] and `train` to logits.
      size: side of the input, pixels.
    """
    seen: dict[Path, None] = {}  # an ordered set

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
    """Applies `config.model.freeze` to a network.

    Args:
      name: "none", "backbone", or a block: freezes it and all blocks before it. "block3" selects
        the last of block3_conv1, block3_conv2, ... In a network without a module `backbone`, that
        is all but the dense layers, which are named head1, head2, ... and head.
      blocks: as `find_blocks` returns them.

    Raises:
      UserError: the network has no such block, or nothing would be left to train.
    """
    if name == NONE:
        return Frozen()
    has_backbone = any(path[0] == BACKBONE for path in blocks)
    matches = [
        index
        for index, path in enumerate(blocks)
        if (_is_backbone(path, has_backbone) if name == BACKBONE else _matches(path[-1], name))
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
            f"model.freeze={name} leaves nothing to train; freeze up to an earlier block "
            f"(in order: {', '.join(known)})"
        )
    return Frozen(frozenset(blocks[: matches[-1] + 1]))


def _is_backbone(path: Path, has_backbone: bool) -> bool:
    return path[0] == BACKBONE if has_backbone else not path[0].startswith("head")


def _matches(block: str, name: str) -> bool:
    return block == name or block.startswith(f"{name}_")
