"""From prepared records to batches on the devices.

records: labels, ids and images of a split. store: images in memory or decoded on request.
sampling: which rows form which batch. feed: batches on the devices. augment, mixing: random
changes of training images, on the device. augment_preview: a grid that shows them. preprocess:
cropping, resizing, masking and normalization, stored with every run.
"""
