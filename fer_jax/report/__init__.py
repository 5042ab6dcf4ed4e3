"""From predictions to numbers, tables and pictures that people can check.

`predictions` holds what a model said, `scores` counts it, `tables` prints it,
`plots` draws it, `write` puts all of it into a folder, `card` says what was
evaluated and warns of what the figures cannot mean. NumPy, OpenCV and
matplotlib only: a report can be made again on a machine without JAX.
"""
