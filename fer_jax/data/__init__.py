"""From prepared records to device batches.

records: a split decoded once into memory. sampling: which rows form which batch.
augment: random changes of training images, on the device. preprocess: pixels to
the network's input range, stored with every run. faces: finding faces.
"""
