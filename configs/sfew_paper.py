"""The paper's SFEW protocol: a random fifth of Train is the test set, so movies are in both splits.

Results are not comparable with those of configs/sfew.py; the report warns of the leak.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/sfew.py."""
    config = configuration.load("configs/sfew.py")
    config.data.protocol = "paper"
    return config
