"""Data sets as TensorFlow Datasets builders, one folder each, without TensorFlow.

`build.py` is the user's verb: archive or folder in, prepared records out.
`stand_in.py` writes stand-ins for sets that nobody may redistribute.
The rest are nouns that builders share: `sources` (a zip or a folder read in
place), `pictures` (decoding with limits), `crops` (face crops on all cores),
`protocols` (who goes into which split), `manual` (the base of every set that the
user brings), `summary` (what was built), `console` (progress).
"""
