"""The local web page: its content (`response`) and its layout with gradio (`page`)."""
