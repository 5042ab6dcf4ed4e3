"""A run's network as one file that runs without fer_jax: StableHLO or ONNX.

`program` is what is exported, `card` what is written beside it, `stablehlo` and `onnx_file`
the two formats, `onnx_graph` the translation of a JAX program to ONNX. `run_onnx` and
`run_stablehlo` are the scripts that are put beside an exported file; they import nothing of
fer_jax.
"""
