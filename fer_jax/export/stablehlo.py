"""A network as StableHLO: one zip with the program, weights inside, and its metadata.

The program is what `jax.export` serialises, which JAX promises to read for at least half a
year, compiled for CPU, CUDA and TPU where it is read. Any batch size runs.
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
from fer_jax.export.program import make_program, symbolic_faces
from fer_jax.inference.network import Network

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, METADATA = "program.stablehlo", "metadata.json"


def export(network: Network) -> bytes:
    """The serialised program uint8[B, S, S, 3] to float32[B, C]."""
    program, variables = make_program(network), jax.device_get(network.variables)
    exported = jax.export.export(
        jax.jit(lambda faces: program(variables, faces)), platforms=PLATFORMS
    )(symbolic_faces(network))
    return bytes(exported.serialize())


def write(path: Path, program: bytes, metadata: dict[str, Any]) -> Path:
    """Writes program and metadata as one file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:  # weights do not shrink
        archive.writestr(METADATA, json.dumps(metadata, indent=2))
        archive.writestr(PROGRAM, program)
    return files.write_bytes(path, content.getvalue())


def run(path: Path, faces: np.ndarray, batch: int) -> np.ndarray:
    """What an exported file says of faces uint8[N, S, S, 3]: float32[N, C]."""
    with zipfile.ZipFile(path) as archive:
        program = jax.export.deserialize(bytearray(archive.read(PROGRAM)))
    call = jax.jit(program.call)
    said = [np.asarray(call(faces[at : at + batch])) for at in range(0, len(faces), batch)]
    return np.concatenate(said)
