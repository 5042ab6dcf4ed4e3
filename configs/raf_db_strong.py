"""RAF-DB with what lifts accuracy there: ResNet-18 at 224 pixels, ImageNet's or one's own weights.

Published with face weights: 86.5 for a plain ResNet-18, 92 for the best practical networks; the
weights matter most, then averaging and SAM, flips with small rotations and erasing, smoothing.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "raf_db"
    # The aligned faces have 100 pixels: enlarged, the last maps are 7 x 7 as the weights know it.
    config.data.size = 224
    config.model.name = "resnet18"
    # Better: --config.model.pretrained=FILE with weights of face recognition, which you bring.
    config.model.pretrained = "imagenet"
    config.augment.rotation = 10.0
    config.augment.zoom = 0.1
    config.augment.erase = 0.5
    config.augment.blur = 0.004
    config.augment.noise = 0.01
    config.train.epochs = 40
    config.train.head_epochs = 2
    config.train.patience = 0
    # Square-root sampling: full oversampling costs accuracy there.
    config.train.balance = "sqrt"
    config.train.monitor = "balanced_accuracy"
    config.train.label_smoothing = 0.1
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.finetune_rate = 1e-4
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = 5.0
    config.optim.sam_rho = 0.05
    config.optim.ema_decay = 0.999
    config.eval.tta = "flip"
    return config
