"""StableHLO files: a zip archive of the program, with its weights, and its metadata.

The program is serialized by `jax.export`, which guarantees at least six months of backward
compatibility. It runs on CPU, CUDA and TPU, with any batch size.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from fer_jax import files
from fer_jax.export.run_exported import joined
from fer_jax.inference.network import Network
from fer_jax.inference.program import make_program, symbolic_faces

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, METADATA = "program.stablehlo", "metadata.json"


def export(network: Network) -> bytes:
    """Serializes the network as a program from uint8[B, S, S, 3] to its outputs."""
    program, variables = make_program(network), jax.device_get(network.variables)
    exported = jax.export.export(
        jax.jit(lambda faces: program(variables, faces)), platforms=PLATFORMS
    )(symbolic_faces(network))
    return bytes(exported.serialize())


def write(path: Path, program: bytes, metadata: dict[str, Any]) -> Path:
    """Writes the program and its metadata."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:  # weights do not compress
        archive.writestr(METADATA, json.dumps(metadata, indent=2))
        archive.writestr(PROGRAM, program)
    return files.write_bytes(path, content.getvalue())


def run(path: Path, faces: np.ndarray, batch: int) -> np.ndarray:
    """Runs an exported file on faces uint8[N, S, S, 3].

    Returns the outputs side by side, float32[N, C + E].
    """
    with zipfile.ZipFile(path) as archive:
        program = jax.export.deserialize(bytearray(archive.read(PROGRAM)))
    call = jax.jit(program.call)
    starts = range(0, len(faces), batch)
    return np.concatenate([joined(call(faces[at : at + batch])) for at in starts])
