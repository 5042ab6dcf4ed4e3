"""Monitoring of training: progress bar, TensorBoard, JSON lines, CSV, timing and profiles.

The modules receive metrics and images; none of them computes a score.
"""
