"""Advice for a device that is out of memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from fer_jax.errors import UserError
from fer_jax.models.registry import has_setting
from fer_jax.settings import Settings


@contextlib.contextmanager
def advice(settings: Settings, store: str) -> Iterator[None]:
    """Turns JAX's RESOURCE_EXHAUSTED into a message with fields to change.

    Args:
      settings: of the run.
      store: where the images are.

    Raises:
      UserError: a device is out of memory; other errors pass.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        fields = [f"--config.train.batch_size={max(1, settings.train.batch_size // 2)}"]
        if store == "device":
            fields.append("--config.data.store=host")
        if settings.model.dtype == "float32":
            fields.append("--config.model.dtype=bfloat16")
        if has_setting(settings.model.name, "remat") and not settings.model.remat:
            fields.append("--config.model.remat=true")
        first = str(error).splitlines()[0][:200]
        raise UserError(
            f"a device is out of memory ({first}); try one of {', '.join(fields)}, or a smaller "
            "--config.data.size or --config.eval.batch_size, in another --workdir if the run "
            "has started"
        ) from error
