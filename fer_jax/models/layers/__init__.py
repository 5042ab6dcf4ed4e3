"""The layers of the networks, and the operations that are faster on CPU than XLA's own."""
