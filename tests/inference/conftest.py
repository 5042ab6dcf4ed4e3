"""The runs, faces and files of `tests/small_runs.py` as fixtures."""

from tests.small_runs import (  # noqa: F401 - fixtures
    chromium,
    color_run,
    media,
    model,
    portraits,
    run,
)
