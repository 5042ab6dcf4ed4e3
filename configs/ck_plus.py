"""CK+ on unseen people: LightVGG, 100 pixels, seven classes with contempt."""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "ck_plus"
    config.data.size = 100
    config.model.name = "light_vgg"
    config.train.batch_size = 32
    return config
