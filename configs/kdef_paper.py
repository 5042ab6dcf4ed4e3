"""The paper's KDEF protocol: six classes and a random split, so people are in both train and test.

Results are not comparable with those of configs/kdef.py; the report warns of the leak.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/kdef.py."""
    config = configuration.load("configs/kdef.py")
    config.data.protocol = "paper"
    return config
