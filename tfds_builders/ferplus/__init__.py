"""FER+: FER2013's images, each with ten votes instead of one label."""
