"""Weights that others trained: files of Keras, PyTorch and safetensors, ported to our networks.

    source.py, keras_h5.py, torch_pth.py   read a file into named arrays; run no code from it
    vgg16.py, inception_resnet_v2.py,
    resnet.py                              where each layer lies in each kind of file
    port.py                                names, shapes and BatchNorm made ours; written
    published.py                           what Keras and torchvision publish, and the cache
    load.py                                a ported file into a network's state

The networks know nothing of this. Nothing here imports Keras or PyTorch.
"""
