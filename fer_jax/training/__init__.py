"""What turns batches into a trained network, in parts that know nothing of each other's files.

job, loop: a training and its sitting. feed, chunks: pictures to the devices, steps to programs.
steps: one training step and one evaluation step; recipe, losses, optim, sam, accumulate, ema,
freezing, stages, tta: what happens in them. state: the arrays of a run. sharding: devices.
evaluation, metrics, stopping, memory: what a run is judged by and remembers. checkpoint: saving
and restoring. signals: leaving on request. writers, summary_table, watch, progress, timing,
profile: what people watch. device_memory: advice where it is short.
"""
