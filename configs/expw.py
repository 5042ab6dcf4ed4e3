"""ExpW, split by photo: LightVGG, 100 pixels, seven classes."""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "expw"
    config.data.size = 100
    config.model.name = "light_vgg"
    config.train.batch_size = 128
    return config
