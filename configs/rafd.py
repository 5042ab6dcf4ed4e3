"""The paper's RaFD experiment, on unseen people: VGG16, 224 pixels, eight classes.

The paper's protocol, a random split, is configs/rafd_paper.py.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "rafd"
    config.data.protocol = "subject"
    config.data.size = 224
    config.model.name = "vgg16"
    config.model.pretrained = "imagenet"
    config.train.batch_size = 32
    return config
