"""The paper's AM-FED+ protocol, as far as known: a random fifth of the frames is the test set.

Frames of one video are in both train and test; the report warns of the leak.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/amfed_plus.py."""
    config = configuration.load("configs/amfed_plus.py")
    config.data.protocol = "paper"
    return config
