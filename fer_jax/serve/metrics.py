"""Counts and times of requests and batches, as Prometheus text for /metrics.

Nothing of a request is kept but its path, its method and its status.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fer_jax.inference.batches import BATCH_SIZES
from fer_jax.serve.guard import App, Message, Receive, Send

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FACES = tuple(size for size in range(1, BATCH_SIZES[-1] + 1) if size & (size - 1) == 0)
_PATHS = ("/predict", "/health", "/metrics", "/docs", "/openapi.json")
_METHODS = ("GET", "HEAD", "OPTIONS", "POST")


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "fer_jax_requests", "Answered requests.", ("path", "method", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._latency = Histogram(
            "fer_jax_predict_seconds", "From a request to /predict to its answer with status 200.",
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._batch = Histogram(
            "fer_jax_batch_faces", "Faces that went through the network at once.", buckets=_FACES,
            registry=self._registry,
        )  # fmt: skip
        self._queue = Gauge(
            "fer_jax_queue_photos", "Photos in work or waiting.", registry=self._registry
        )

    def watch_queue(self, pending: Callable[[], int]) -> None:
        """Sets what returns the number of photos in work or waiting."""
        self._queue.set_function(pending)

    def observe_batch(self, faces: int) -> None:
        """Counts one batch."""
        self._batch.observe(faces)

    def text(self) -> bytes:
        """Returns the metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def measured(self, app: App) -> App:
        """Returns an ASGI application that passes all on to `app` and measures it."""

        async def measure(scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            start, status = time.perf_counter(), 500

            async def watch(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, watch)
            finally:
                # Any other path or method would let a client make the counter grow.
                path = scope["path"] if scope["path"] in _PATHS else "other"
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._requests.labels(path, method, str(status)).inc()
                if path == "/predict" and status == 200:
                    self._latency.observe(time.perf_counter() - start)

        return measure
