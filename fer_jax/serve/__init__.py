"""The local page: what it answers (`answers`), and how it looks (`page`, with gradio)."""
