"""How the repeated blocks of a network are traced and differentiated."""

from __future__ import annotations

from typing import Any

import flax.linen as nn


def prepared(block: Any, remat: bool, shares: bool) -> Any:
    """The module class `block`, called with (x, train), as a network's fields ask for it.

    Args:
      block: a class of modules.
      remat: compute it again in the backward pass instead of keeping what is in it.
      shares: trace those of one form as one function.
    """
    if remat:
        block = nn.remat(block, static_argnums=(2,))
    return nn.jit(block, static_argnums=(2,)) if shares else block
