"""ONNX Runtime, running fer_jax's network as `fer-jax export` translates it.

    python -m benchmarks.speed.contenders.onnx MODEL SIZE FILE     writes the file

A subprocess writes the file, so that the memory of this process is ONNX Runtime's alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.tasks import CLASSES, Task

INPUT, OUTPUT = "faces", "probabilities"


def make(task: Task, settings: Mapping[str, Any], device: str, threads: int) -> Any:
    """Returns the workload of a task."""
    del settings, device
    return Inference(task, threads)


class Inference:
    """Probabilities of a uint8 batch."""

    def __init__(self, task: Task, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            command = [sys.executable, "-m", __name__, task.model, str(task.size), str(path)]
            subprocess.run(command, check=True, stdout=sys.stderr)
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        shape = (task.batch, task.size, task.size, 3)
        self._images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        self.images_per_step = task.batch
        # BatchNorm is folded into the weights of the file, so parameter counts are not comparable.
        self.facts = {"parameters": None, "versions": {"onnxruntime": onnxruntime.__version__}}

    def run(self, steps: int) -> None:
        """Runs `steps` batches."""
        for _ in range(steps):
            self._session.run([OUTPUT], {INPUT: self._images})


def main() -> None:
    """Writes the network with random weights to a file."""
    import jax
    import jax.numpy as jnp
    import optax

    from fer_jax.data.preprocess import Preprocessing
    from fer_jax.inference import onnx_graph
    from fer_jax.models.layers import cpu_ops
    from fer_jax.models.registry import create_model
    from fer_jax.training.state import create_state

    name, size, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    model = create_model(name, CLASSES)
    normalized = Preprocessing(size, "unit").normalized

    def program(variables: Any, faces: jax.Array) -> jax.Array:
        with cpu_ops.disabled():
            logits = model.apply(variables, normalized(faces), train=False)
        return jax.nn.softmax(jnp.asarray(logits))

    variables = jax.device_get(create_state(model, optax.identity(), size, 0).variables)
    (batch,) = jax.export.symbolic_shape("batch")
    faces = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    path.write_bytes(
        onnx_graph.translate(program, variables, faces, INPUT, [OUTPUT]).SerializeToString()
    )


if __name__ == "__main__":
    main()
