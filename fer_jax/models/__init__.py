"""The networks, one file each, as Flax linen modules, and their registry.

Imports jax and flax only: no data, no training, no configuration.
"""
