"""The paper's RAF-DB experiment, official test split: LightVGG, 100 pixels, seven classes."""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "raf_db"
    config.data.protocol = "official"
    config.data.size = 100
    config.model.name = "light_vgg"
    return config
