"""Trains networks.

train: starts or resumes a run. session, loop: one invocation, and its loop over steps.
build, initial_weights, model_summary: the network, its initial weights, its description.
step: one training step; recipe, losses, accumulate, freezing, tta: its options.
optim, stages, step_counts: optimizers, the stages of a run, its durations in steps.
dispatch: compiles several steps into one program.
evaluation, metrics, early_stopping: validation, and when to stop.
state, loop_state: the arrays of a run, and what the loop needs to resume.
checkpoint, restore: saves and restores both.
"""
