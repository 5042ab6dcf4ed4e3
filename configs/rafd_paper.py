"""The paper's RaFD protocol: a random fifth is the test set, so people are in both train and test.

Results are not comparable with those of configs/rafd.py; the report warns of the leak.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/rafd.py."""
    config = configuration.load("configs/rafd.py")
    config.data.protocol = "paper"
    return config
