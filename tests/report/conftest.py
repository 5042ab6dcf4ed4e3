"""The browser fixture."""

from tests.chromium import chromium  # noqa: F401 - fixture
