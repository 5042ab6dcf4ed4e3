"""FER+: FER2013's pictures with ten votes each instead of one label."""
