"""The paper's own SFEW protocol: a random fifth of Train is the test, so that movies are in both.

Its figures cannot be compared with those of configs/sfew.py; the report says that it leaks.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/sfew.py."""
    config = configuration.load("configs/sfew.py")
    config.data.protocol = "paper"
    return config
