"""One face through a network: where JAX's time goes, and ONNX Runtime beside it.

    python -m benchmarks.one_face [--networks light_vgg:100 vgg16:224] [--rounds 20]

Random weights; a uint8 face on the host to probabilities on the host; the ways alternate. Needs the
extra `onnx`.

| way | what it is |
|---|---|
| call | a jitted program that reads one pixel, with the network's weights as arguments |
| jit | the network as `Network` calls it |
| ahead of time | the same, compiled before, called as an executable |
| constants | the weights as constants of the program |
| ONNX Runtime | the graph that `predict` and `serve` use |
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.inference import onnx_graph
from fer_jax.inference.onnx_runtime import Graph
from fer_jax.models.initialize import initialize
from fer_jax.models.layers import cpu_ops
from fer_jax.models.registry import create_model
from fer_jax.runtime import xla_options

CLASSES = 7
_SECONDS = 0.03  # of one way in a round, at least

Answer = Callable[[], np.ndarray]


def make_ways(name: str, size: int) -> dict[str, Answer]:
    """Returns what computes the probabilities of one face in each way."""
    model = create_model(name, CLASSES)
    variables = initialize(model, size, 0)
    on_device = jax.device_put(variables)
    options = xla_options.for_model(model)
    face = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)

    def program(variables: Any, faces: jax.Array) -> jax.Array:
        return jax.nn.softmax(
            jnp.asarray(model.apply(variables, faces.astype(jnp.float32) / 255, train=False))
        )

    def exported(variables: Any, faces: jax.Array) -> jax.Array:
        with cpu_ops.disabled():
            return program(variables, faces)

    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    content = onnx_graph.translate(exported, variables, shape, "faces", ["probabilities"])
    graph = Graph(content.SerializeToString(), 0, "")
    pixel = jax.jit(lambda _, faces: faces[:, 0, 0].astype(jnp.float32))
    jitted = jax.jit(program, compiler_options=options)
    compiled = jitted.lower(on_device, face).compile()
    constant = jax.jit(lambda faces: program(variables, faces), compiler_options=options)
    return {
        "call": lambda: np.asarray(pixel(on_device, face)),
        "jit": lambda: np.asarray(jitted(on_device, face)),
        "ahead of time": lambda: np.asarray(compiled(on_device, face)),
        "constants": lambda: np.asarray(constant(face)),
        "ONNX Runtime": lambda: graph.answer(face),
    }


def measure(answer: Answer) -> tuple[float, float]:
    """Returns wall and CPU milliseconds of one answer."""
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while (wall := time.perf_counter() - start) < _SECONDS or count < 2:
        answer()
        count += 1
    return 1000 * wall / count, 1000 * (time.process_time() - cpu) / count


def main() -> None:
    """Prints a row per network and way: the shortest wall and CPU time of the rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--networks", nargs="+", metavar="NAME:SIZE", default=["light_vgg:100"])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print("| network | way | ms | CPU ms |\n|---|---|---|---|")
    for network in options.networks:
        name, size = network.split(":")
        ways = make_ways(name, int(size))
        np.testing.assert_allclose(ways["ONNX Runtime"](), ways["jit"](), atol=1e-5)
        for answer in ways.values():
            answer()  # compiles
        rounds = [[measure(answer) for answer in ways.values()] for _ in range(options.rounds)]
        for way, times in zip(ways, zip(*rounds, strict=True), strict=True):
            wall, cpu = map(min, zip(*times, strict=True))
            print(f"| {name}, {size} px | {way} | {wall:.3g} | {cpu:.3g} |", flush=True)


if __name__ == "__main__":
    main()
