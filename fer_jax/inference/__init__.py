"""Prediction with a trained run: from files and cameras to labeled faces.

- `model`: detects and classifies the faces of images; the public `Model`
- `locate`: face detection and cropping like the run's training data
- `network`: the network in JAX, in the sizes of `batches`; `gradcam`: its heat maps
- `onnx_runtime`: the same in ONNX Runtime, where that is faster; `program`, `onnx_graph`: its graph
- `fork`: refuses forked processes, which lack the threads of both
- `results`: the result classes
- `sources`, `stream`, `predict`: images, videos and cameras, in bounded memory
- `corpus`: many photos, in shards and on several processes
- `draw`, `overlay`, `outputs`: annotated images and the files of `fer-jax predict`

Nothing is trained or evaluated here, and no data set is opened.
"""
