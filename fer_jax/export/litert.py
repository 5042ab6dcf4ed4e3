"""LiteRT (TensorFlow Lite) files, which phones and small boards run: float32, one face at a time.

Google's converter translates the StableHLO program; TensorFlow is not needed. Needs the extra
`litert`. The metadata is a zip archive at the end of the file, where TensorFlow Lite keeps the
files that belong to a model.
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
from fer_jax.errors import UserError
from fer_jax.export.run_exported import load_litert
from fer_jax.inference.network import Network
from fer_jax.inference.program import INPUT, OUTPUT, further_outputs, make_program

METADATA = "metadata.json"


def check_installed() -> None:
    """Checks that the converter and the interpreter are installed.

    Raises:
      UserError: one is missing; the message has the command that installs it.
    """
    try:
        import ai_edge_litert  # noqa: F401
        import litert_converter  # noqa: F401
    except ImportError as error:
        raise UserError(
            "expected the packages litert-converter and ai-edge-litert, found no "
            f"{error.name}; install them with: pip install 'fer-jax[litert]', in an environment "
            "without the extra serve, which needs newer typing-extensions"
        ) from None


def export(network: Network) -> bytes:
    """Converts the network to a LiteRT model of one face, uint8[1, S, S, 3]."""
    from litert_converter import converter_api_ext as converter
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir.dialects import stablehlo

    program, variables = make_program(network), jax.device_get(network.variables)
    size = network.run.preprocessing.size
    faces = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    exported = jax.export.export(
        jax.jit(lambda faces: program(variables, faces)), platforms=("cpu",)
    )(faces)
    outputs = [OUTPUT, *further_outputs(network.run)]
    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        # Not the program's text: the serialized form is kept compatible between versions.
        module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        (main,) = (
            function.operation
            for function in module.body.operations
            if ir.StringAttr(function.attributes["sym_name"]).value == "main"
        )
        converter.set_signature(main, "serving_default", [INPUT], outputs)
        passes = passmanager.PassManager("builtin.module")
        converter.run_convert_to_tfl_passes(module, passes, converter.ConvertToTFLConfig())
        return bytes(converter.export_flatbuffer_to_bytes(module.operation))


def write(path: Path, model: bytes, metadata: dict[str, Any]) -> Path:
    """Writes the model and its metadata."""
    content = io.BytesIO(model)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(METADATA, json.dumps(metadata, indent=2))
    return files.write_bytes(path, content.getvalue())


def run(path: Path, faces: np.ndarray) -> np.ndarray:
    """Runs a file on faces uint8[N, S, S, 3]; returns its outputs side by side."""
    classify, _ = load_litert(str(path))
    return classify(faces)
