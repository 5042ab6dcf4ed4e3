"""Ports published weights (Keras, PyTorch, safetensors, dlib) to the networks of fer_jax.

    source.py, keras_h5.py,
    torch_pth.py, dlib_dat.py              read a file into named arrays, without running code
    layout.py                              the types of the layer tables
    vgg16.py, inception_resnet_v2.py,
    resnet.py, face_resnet.py, ir50.py     each network's layer table: names in each file layout
    presets.py                             network and input of the files that users bring
    port.py                                converts names, shapes and BatchNorm; writes the result
    published.py                           downloads what Keras and torchvision publish; the cache
    load.py                                loads a ported file into a network's state

The networks do not depend on this package. Nothing here imports Keras, PyTorch or dlib.
"""
