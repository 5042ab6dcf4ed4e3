"""Exports a run's network as one file that runs without fer_jax: ONNX or StableHLO.

- `export_run`: writes the file and compares it with the run
- `stablehlo`, `onnx_file`: the two formats, of the function in `inference.program`
- `card`: the metadata and the model card stored in the file
- `run_exported`: the script written beside the file; it does not import fer_jax
"""
