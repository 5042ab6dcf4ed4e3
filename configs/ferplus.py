"""FER+ on two CPU cores: LightVGG of three blocks, 48 pixels, the ten votes as targets.

Eight classes by majority vote in evaluation, FER2013's official splits. Square-root sampling
because contempt and disgust are rarer than one in a hundred. The shipped model is a run of it.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "ferplus"
    config.data.size = 48
    config.data.targets = "votes"
    config.model.name = "light_vgg"
    config.model.widths = (32, 64, 128)
    config.model.head_widths = (512,)
    config.model.dropout = 0.5
    # The images are gray, small and tightly cropped: no color jitter, no blur.
    config.augment.zoom = 0.1
    config.augment.shift = 0.08
    config.augment.blur = 0.0
    config.augment.noise = 0.0
    config.augment.brightness = 0.0
    config.augment.contrast = 0.0
    config.augment.saturation = 0.0
    config.augment.erase = 0.25
    config.train.balance = "sqrt"
    config.train.batch_size = 128
    config.train.epochs = 30
    config.train.patience = 0
    config.optim.name = "adamw"
    config.optim.weight_decay = 1e-2
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.999
    config.eval.tta = "flip"
    config.eval.calibrate = True
    return config
