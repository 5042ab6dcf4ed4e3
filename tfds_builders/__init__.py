"""Data sets as TensorFlow Datasets builders, one folder each, without TensorFlow.

`build.py` is the user's verb: archive or folder in, prepared records out.
`stand_in.py` writes stand-ins for sets that nobody may redistribute.
The rest are nouns that builders share. Reading copies: `sources` (archives and folders
read in place), `copies` (is it a whole one), `tables` (label files), `record` (one
picture by its name), `pictures` (decoding with limits). Making records: `crops` (face
crops on all cores), `shards` (files in order), `index` (what is known of each record),
`duplicates` (pictures that look alike), `stored` and `manual` (bases of builders).
Using them: `protocols` (who goes into which split), `leaks` (what splits share),
`prepared` (a set under a protocol), `summary` (what was built).
"""
