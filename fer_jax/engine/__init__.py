"""What turns batches into a trained network, in parts that know nothing of each other's files.

state: the arrays of a run. sharding: devices. optim, losses, metrics: mathematics.
steps: the two jitted programs. early_stopping: when to stop. checkpoint: saving and
restoring. signals: leaving on request. writers, progress: what people watch.
"""
