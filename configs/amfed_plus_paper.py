"""The paper's AM-FED+ protocol, as far as it is known: a random fifth of the frames is tested on.

Frames of one video are in train and test; the report says that it leaks.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/amfed_plus.py."""
    config = configuration.load("configs/amfed_plus.py")
    config.data.protocol = "paper"
    return config
