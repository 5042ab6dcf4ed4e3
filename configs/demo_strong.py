"""The demo with a stronger recipe: three times the epochs, averaged weights, two test views.

Mixup, CutMix and erasing are off: so small a network underfits.
"""

from ml_collections import ConfigDict

from fer_jax import config as configuration


def get_config() -> ConfigDict:
    """What differs from configs/demo.py."""
    config = configuration.load("configs/demo.py")
    config.train.epochs = 120
    config.train.eval_epochs = 4
    config.train.patience = 0
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.02
    config.optim.ema_decay = 0.998
    config.eval.tta = "flip"
    return config
