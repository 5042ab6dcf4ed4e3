"""FER+: LightVGG, 48 pixels, eight classes by majority vote, FER2013's official splits."""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "ferplus"
    config.data.size = 48
    config.model.name = "light_vgg"
    return config
