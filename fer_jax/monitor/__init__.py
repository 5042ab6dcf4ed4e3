"""What a run reports while it trains: console, TensorBoard, JSON lines, CSV, timing, profiles.

Writers get numbers and images from others; nothing here computes a score.
"""
