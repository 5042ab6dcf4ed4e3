"""The demo's faces with a stronger recipe: three times as long, averaged weights, two views.

The network is the demo's. Mixing and erasing are off: so small a network underfits.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from the demo."""
    config = configuration.load("configs/demo.py")
    config.train.epochs = 120
    config.train.eval_epochs = 4
    config.train.patience = 0
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.02
    config.optim.ema_decay = 0.998
    config.eval.tta = "flip"
    return config
