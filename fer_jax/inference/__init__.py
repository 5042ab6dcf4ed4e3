"""From files and cameras to what a trained network says of the faces in them.

`locate` finds and cuts faces as the run's data was cut, `network` runs the network in
batches of few sizes, `results` holds what came out, `sources` reads pictures, videos and
cameras, `stream` puts these in a row with bounded memory, `draw` paints, `outputs` writes
files. Nothing is trained or scored here, and no data set is opened.
"""
