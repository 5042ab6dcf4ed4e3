"""The paper's own KDEF protocol: six classes, split at random, so that people are in both.

Its figures cannot be compared with those of configs/kdef.py; the report says that it leaks.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/kdef.py."""
    config = configuration.load("configs/kdef.py")
    config.data.protocol = "paper"
    return config
