"""One module per library: its training step and inference. Imported by workers only."""
