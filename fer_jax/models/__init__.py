"""The networks, one file each, as Flax linen modules, and their registry.

Imports jax and flax only: no data, no training, no configuration.
"""

from fer_jax.models.custom_cnn import CustomCNN
from fer_jax.models.face_resnet import FaceResNet
from fer_jax.models.inception_resnet_v2 import InceptionResNetV2
from fer_jax.models.ir50 import IR50
from fer_jax.models.light_vgg import LightVGG
from fer_jax.models.resnet import ResNet18, ResNet50, ResNet50Caffe, SENet50
from fer_jax.models.vgg import VGG16

__all__ = [
    "IR50",
    "VGG16",
    "CustomCNN",
    "FaceResNet",
    "InceptionResNetV2",
    "LightVGG",
    "ResNet18",
    "ResNet50",
    "ResNet50Caffe",
    "SENet50",
]
