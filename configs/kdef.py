"""The paper's KDEF experiment, on unseen people: custom CNN, 224 pixels, seven expressions.

The paper's protocol, six classes and a random split, is configs/kdef_paper.py.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "kdef"
    config.data.protocol = "subject"
    config.data.size = 224
    config.model.name = "custom_cnn"
    config.train.batch_size = 32
    return config
