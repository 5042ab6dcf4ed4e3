"""The command line: `app` dispatches `fer-jax VERB`, and one module per verb parses its flags.

A verb's module imports JAX only after its flags are checked.
"""
