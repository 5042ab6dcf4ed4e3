"""The paper's SFEW experiment, tested on Val: InceptionResNetV2, 224 pixels, seven classes.

The paper's protocol, a random split of Train, is configs/sfew_paper.py.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "sfew"
    config.data.protocol = "official"
    config.data.size = 224
    config.model.name = "inception_resnet_v2"
    config.model.pretrained = "imagenet"
    config.train.batch_size = 32
    return config
