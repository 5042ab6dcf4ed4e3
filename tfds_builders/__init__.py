"""Data sets as TensorFlow Datasets builders, one folder each, without TensorFlow.

`prepare` reads the user's archive or folder and writes records; `build.py` and `stand_in.py` are
its command lines and that of the stand-ins. Modules that the builders share:

Reading a copy: `sources` (archives and folders, read in place), `copies` (whether a copy is
complete), `tables` (label files), `record` (one image, by its name), `stand_in_mark`.
Making records: `crops` (face crops on all cores), `encode`, `shards` (record files), `index` (one
entry per record), `duplicates` (similar images), `stored` and `manual` (base classes).
Using records: `protocols` (splits), `leaks` (what splits share), `prepared` (a set under a
protocol), `summary` (what was prepared).
"""
