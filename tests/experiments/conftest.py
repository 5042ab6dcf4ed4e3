"""The runs of `tests/small_runs.py`, and the browser, as fixtures."""

from tests.small_runs import (  # noqa: F401 - fixtures
    chromium,
    model,
    run,
)
