"""AffectNet, tested on its validation split: LightVGG, 100 pixels, eight classes.

For seven classes, without contempt: --config.data.protocol=seven.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "affectnet"
    config.data.size = 100
    config.model.name = "light_vgg"
    config.train.batch_size = 256
    config.train.epochs = 15
    return config
