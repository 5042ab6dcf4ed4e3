"""What is done with whole runs: evaluation, cross-validation, comparison of their reports."""
