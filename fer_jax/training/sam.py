"""Sharpness-aware minimisation: the gradient is taken where the loss near by is highest.

Foret et al. 2021, algorithm 1: climb by rho along the normalised gradient, take the gradient
there, and apply it where the climb began. The step does both passes; BatchNorm's statistics
are those of the first.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax


def climbed(params: Any, gradient: Any, rho: float) -> Any:
    """`params` moved by `rho` (in the L2 norm of all of them) to where the loss is higher."""
    # A gradient of zero has no direction, and the place is where it is.
    scale = rho / jnp.maximum(optax.tree.norm(gradient), 1e-12)
    return jax.tree.map(lambda value, slope: value + scale * slope, params, gradient)
