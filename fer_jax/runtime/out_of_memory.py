"""What to say when a device has no memory left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from fer_jax.errors import UserError
from fer_jax.models.registry import has_setting


@contextlib.contextmanager
def explained(config: ConfigDict, store: str) -> Iterator[None]:
    """Turns JAX's RESOURCE_EXHAUSTED into advice.

    Args:
      config: of the run.
      store: where the pictures are.

    Raises:
      UserError: a device has run out of memory; other errors pass.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        half = max(1, config.train.batch_size // 2)
        advice = [f"--config.train.batch_size={half}"]
        if store == "device":
            advice.append("--config.data.store=host")
        if config.model.dtype == "float32":
            advice.append("--config.model.dtype=bfloat16")
        if has_setting(config.model.name, "remat") and not config.model.remat:
            advice.append("--config.model.remat=true")
        first = str(error).splitlines()[0][:200]
        raise UserError(
            f"a device has no memory left ({first}); try one of {', '.join(advice)}, or a smaller "
            "--config.data.size or --config.eval.batch_size, in another --workdir if the run "
            "has begun"
        ) from error
