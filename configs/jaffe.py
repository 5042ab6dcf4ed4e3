"""JAFFE on two unseen people: LightVGG, 100 pixels, seven classes.

For ten-fold results, as commonly reported: --config.data.protocol=fold1of10 and so on.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "jaffe"
    config.data.size = 100
    config.model.name = "light_vgg"
    config.train.batch_size = 16
    config.train.epochs = 60
    return config
