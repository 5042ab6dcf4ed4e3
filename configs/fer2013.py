"""FER2013 on two CPU cores: the shipped FER+ network, fine-tuned on FER2013's seven labels.

FER+ is FER2013 with other labels and the same official splits, so that neither network has learned
from PublicTest or PrivateTest. From scratch: --config.model.pretrained=none with more epochs, or
configs/fer2013_large.py on a GPU.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "fer2013"
    config.data.size = 48
    # The shipped network, and the fields that its weights need.
    config.model.pretrained = "ferplus"
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
    # 38 % of the training labels are not what most of FER+'s voters see.
    config.train.label_smoothing = 0.1
    config.train.batch_size = 128
    config.train.epochs = 15
    config.train.head_epochs = 1
    config.train.patience = 0
    config.optim.name = "adamw"
    config.optim.weight_decay = 1e-2
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.999
    config.optim.learning_rate = 1e-3
    config.optim.finetune_rate = 5e-4
    config.eval.tta = "flip"
    config.eval.calibrate = True
    return config
