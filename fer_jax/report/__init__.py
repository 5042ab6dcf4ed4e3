"""From predictions to numbers, tables and pictures that people can check.

`predictions` holds what a model said, `scores` counts it, `slices` counts parts of it,
`tables` prints it, `plots` draws it, `page` and `svg` make the page that people open,
`examples` orders what it shows,
`write` puts all of it into a folder, `card` says what was evaluated and warns of what the
figures cannot mean. NumPy, OpenCV,
matplotlib and Jinja only: a report can be made again on a machine without JAX.
"""
