"""Work on whole runs: evaluation, cross-validation and comparison of reports."""
