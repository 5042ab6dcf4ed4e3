"""Exports a run's network as one file that runs without fer_jax: ONNX or StableHLO.

- `export_run`: writes the file and compares it with the run
- `program`: the exported function
- `stablehlo`, `onnx_file`: the two formats; `onnx_graph`: translates a JAX program to ONNX
- `card`: the metadata and the model card stored in the file
- `run_exported`: the script written beside the file; it does not import fer_jax
"""
