"""From prepared records to device batches.

records: what is known of a split, and its pictures. store, pixel_cache: where pictures are in
training. sampling: which rows form which batch. augment, mixing: random changes of training
images, on the device. preview: a picture of them. preprocess: pixels to the network's input
range, stored with every run. faces: finding faces.
"""
