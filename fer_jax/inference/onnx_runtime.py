"""A run's network in ONNX Runtime, which predicts on CPUs where it is installed and faster.

It needs no JAX, whose import and compilation take most of the time that one photo takes. The first
prediction with a run makes its graph, compares its answers with JAX's, times both, and keeps graph
and verdict in the cache folder. Reports are computed in JAX: a score does not depend on an extra.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

import fer_jax
from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.executor import cores
from fer_jax.inference import fork
from fer_jax.inference.batches import BATCH_SIZES
from fer_jax.run_dir import CALIBRATION, Run
from fer_jax.runtime.compile_cache import MAX_BYTES, machine, trim

if TYPE_CHECKING:
    from fer_jax.inference.network import Network

VARIABLE = "FER_JAX_ONNXRUNTIME"
"""Environment variable: 0 predicts in JAX."""

TOLERANCE = 1e-5
"""Largest difference of an answer from JAX's."""

MAX_GRAPH_BYTES = 2**29
"""Larger networks stay in JAX: making a graph takes several times its size in memory."""

_ROUNDS = 10  # of timing; of which the fastest counts, because other processes only delay


class Classifier(Protocol):
    """What computes a run's answers: `Network`, or `Graph`."""

    @property
    def step(self) -> int:
        """Training step of the weights."""

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""

    @property
    def runtime(self) -> str:
        """Name and version of the library that computes."""

    def answer(self, faces: np.ndarray) -> np.ndarray:
        """Returns the answers of all heads, float32[N, C + E], of faces uint8[N, S, S, 3]."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether ONNX Runtime predicts with a run on this machine.

    Attributes:
      step: of the weights.
      digest: of the weights.
      graph: SHA-256 of the graph; "" if JAX predicts.
      reason: why, for people.
    """

    step: int
    digest: str
    graph: str
    reason: str


class Graph:
    """A run's network in ONNX Runtime.

    Args:
      content: the ONNX model.
      step: of the weights.
      digest: of the weights.
    """

    def __init__(self, content: bytes, step: int, digest: str) -> None:
        import onnxruntime

        fork.check()
        self.step, self.digest = step, digest
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads()
        # Threads that spin between two images take the cores from face detection.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._outputs = sum(port.shape[1] for port in self._session.get_outputs())

    def answer(self, faces: np.ndarray) -> np.ndarray:
        """Returns the answers of all heads, as `Network.answer` does."""
        fork.check()
        answers = [np.zeros((0, self._outputs), np.float32)]
        for first in range(0, len(faces), BATCH_SIZES[-1]):
            batch = faces[first : first + BATCH_SIZES[-1]]
            answers.append(np.concatenate(self._session.run(None, {self._input: batch}), axis=1))
        return np.concatenate(answers)


def open_classifier(run: Run, open_network: Callable[[], Network]) -> Classifier:
    """Returns what predicts with a run: ONNX Runtime where it is faster, else JAX.

    Args:
      run: a trained run.
      open_network: returns its network in JAX; called only if it is needed.

    Raises:
      UserError: what `open_network` raises.
    """
    fork.check()
    path = _path(run)
    if path is None:
        return open_network()
    verdict = _read(path)
    if verdict is None:
        network = open_network()
        return _judge(network, path) or network
    graph = _open(path, verdict) if verdict.graph else None
    return graph or open_network()


def _path(run: Run) -> Path | None:
    """Returns where the run's graph is kept, without suffix; None where JAX predicts anyway."""
    is_off = os.environ.get(VARIABLE, "1") == "0"
    # A network of a plugin could change without a trace in the run.
    is_own = any(part["kind"] == "network" for part in run.plugins)
    if is_off or is_own or not importlib.util.find_spec("onnxruntime") or not _computes_on_cpu():
        return None
    try:
        folder = files.cache_folder() / "graphs" / machine()
        folder.mkdir(parents=True, exist_ok=True)
        return folder / _key(run) if os.access(folder, os.W_OK) else None
    except (OSError, UserError):  # no home; or a run without files, which JAX's path reports
        return None


def _computes_on_cpu() -> bool:
    """Whether JAX computes on CPUs here; imports it only where it might not."""
    plugins = map(importlib.util.find_spec, ("jax_plugins", "libtpu"))
    if "jax" not in sys.modules and (os.environ.get("JAX_PLATFORMS") == "cpu" or not any(plugins)):
        return True
    import jax

    return jax.default_backend() == "cpu"


def _key(run: Run) -> str:
    """Returns the name of the run's graph: of all that its answers depend on.

    The weights count by their files' sizes and times, because reading them takes JAX. A damaged
    checkpoint so has no graph, and is reported as ever.
    """
    digest = hashlib.sha256()
    versions = [fer_jax.__version__, _version("jax"), _version("onnxruntime")]
    digest.update(repr(versions).encode())
    for name in ("run.json", "config.json", CALIBRATION):
        if (path := run.folder / name).exists():
            digest.update(path.read_bytes())
    weights = [*run.folder.glob("*.safetensors"), *run.checkpoints.glob("[0-9]*/**/*")]
    for path in sorted(weights):
        found = path.stat()
        name = path.relative_to(run.folder).as_posix()
        digest.update(repr([name, found.st_size, found.st_mtime_ns]).encode())
    return digest.hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # onnxruntime-openvino, for example
        return ""


def _read(path: Path) -> Verdict | None:
    try:
        return Verdict(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _open(path: Path, verdict: Verdict) -> Graph | None:
    """Returns the stored graph; None if it is gone or damaged: it is made anew next time."""
    with contextlib.suppress(Exception):  # whatever ONNX Runtime raises: JAX predicts
        content = path.with_suffix(".onnx").read_bytes()
        if hashlib.sha256(content).hexdigest() == verdict.graph:
            return Graph(content, verdict.step, verdict.digest)
    path.with_suffix(".json").unlink(missing_ok=True)
    return None


def _judge(network: Network, path: Path) -> Graph | None:
    """Makes the graph and keeps it, if it is as exact as JAX and as fast; keeps the verdict."""
    try:
        import onnx  # noqa: F401 - which makes graphs
    except ImportError:
        return None
    try:
        content, graph, reason = _make(network)
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises: JAX predicts
        content, graph, reason = b"", None, f"{type(error).__name__}: {error}"
    sha = hashlib.sha256(content).hexdigest() if graph else ""
    verdict = Verdict(network.step, network.digest, sha, reason)
    try:
        if graph:
            trim(path.parent, MAX_BYTES)
            files.write_bytes(path.with_suffix(".onnx"), content)
        files.write_text(path.with_suffix(".json"), json.dumps(dataclasses.asdict(verdict)))
    except (OSError, UserError):
        pass  # a full disk: made again next time
    return graph


def _make(network: Network) -> tuple[bytes, Graph | None, str]:
    """Returns the graph's content, the graph or None if JAX predicts, and why."""
    import jax

    from fer_jax.inference.program import to_onnx

    size = sum(array.nbytes for array in jax.tree.leaves(network.variables))
    if size > MAX_GRAPH_BYTES:
        return b"", None, f"{size:,} bytes of weights"
    content = to_onnx(network).SerializeToString()
    graph = Graph(content, network.step, network.digest)
    faces = _faces(network.run.preprocessing.size)
    expected = np.concatenate([network.answer(face[None]) for face in faces])
    difference = float(np.abs(graph.answer(faces) - expected).max())
    if not difference <= TOLERANCE:
        return b"", None, f"answers differ by {difference:.2g}"
    jax_ms, graph_ms = _milliseconds((network, graph), faces[:1])
    reason = f"a face: JAX {jax_ms:.2f} ms, ONNX Runtime {graph_ms:.2f} ms; {difference:.2g} apart"
    return content, graph if graph_ms <= jax_ms else None, reason


def _milliseconds(classifiers: tuple[Classifier, ...], face: np.ndarray) -> list[float]:
    """Returns the time of each for one face, the shortest of alternating rounds."""
    times: list[list[float]] = [[] for _ in classifiers]
    for _ in range(_ROUNDS):
        for classifier, found in zip(classifiers, times, strict=True):
            start = time.perf_counter()
            classifier.answer(face)
            found.append(1000 * (time.perf_counter() - start))
    return list(map(min, times))


def _faces(size: int) -> np.ndarray:
    """Returns images to compare on, noise of several grains: uint8[8, S, S, 3]."""
    rng = np.random.default_rng(0)
    grains = [rng.integers(0, 256, (side, side, 3), np.uint8) for side in (2, 3, 5, 8, 12, 20, 32)]
    images = [cv2.resize(grain, (size, size), interpolation=cv2.INTER_LINEAR) for grain in grains]
    return np.stack([*images, np.full_like(images[0], 128)])


def _threads() -> int:
    """Returns the number of threads: that of XLA, which workers limit."""
    return min(cores(), int(os.environ.get("NPROC") or cores()))
