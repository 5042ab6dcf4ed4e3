"""A command as its process would run it, in the process of the test."""

from __future__ import annotations

from fer_jax import errors
from fer_jax.cli import app


def run(*arguments: object) -> None:
    """Runs `fer-jax ARGUMENTS`; wrong input becomes a message and `SystemExit(2)`."""
    with errors.exit_cleanly():
        app.main([str(argument) for argument in arguments])
