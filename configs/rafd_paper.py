"""The paper's own RaFD protocol: a random fifth is the test, so that people are in both.

Its figures cannot be compared with those of configs/rafd.py; the report says that it leaks.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/rafd.py."""
    config = configuration.load("configs/rafd.py")
    config.data.protocol = "paper"
    return config
