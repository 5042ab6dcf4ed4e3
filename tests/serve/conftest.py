"""The runs, faces and files of `tests/small_runs.py` as fixtures, and a REST server."""

from __future__ import annotations

import pytest

from fer_jax.serve import guard, rest, server
from fer_jax.serve.metrics import Metrics
from fer_jax.serve.predictor import Predictor
from tests.serve.process import free_port
from tests.small_runs import (  # noqa: F401 - fixtures
    chromium,
    color_run,
    media,
    model,
    portraits,
    run,
)


@pytest.fixture(scope="session")
def metrics():
    return Metrics()


@pytest.fixture(scope="session")
def predictor(model, metrics):  # noqa: F811 - a fixture
    made = Predictor(model, max_wait=0.002, max_queue=128, observe=metrics.observe_batch)
    yield made
    made.close()


@pytest.fixture(scope="session")
def port(predictor, metrics, tmp_path_factory):
    """The port of a REST server in this process."""
    app = rest.make_app(predictor, metrics)
    rest.add_redirect(app)
    folder = tmp_path_factory.mktemp("uploads")
    guarded = guard.Guard(app, "127.0.0.1", folder)
    with server.listen("127.0.0.1", free_port()) as listener:
        number = listener.getsockname()[1]
        with server.serving(metrics.measured(guarded), listener):
            yield number
