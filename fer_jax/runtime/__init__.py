"""Devices and processes: distributed start, sharding, XLA's options and cache, signals, memory.

Nothing here knows networks or data sets. `huge_pages` imports no JAX: it runs before JAX is
imported.
"""
