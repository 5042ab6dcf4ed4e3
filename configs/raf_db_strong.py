"""RAF-DB with a strong recipe: ResNet-18 at 224 pixels, pretrained on ImageNet or your own weights.

Published accuracy with face-recognition weights: 86.5 for a plain ResNet-18, 92 for the best
practical networks. Pretraining matters most, then EMA and SAM, then augmentation and smoothing.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "raf_db"
    # Upscaled from 100 pixels, so that the last feature maps are 7 x 7 as in pretraining.
    config.data.size = 224
    config.model.name = "resnet18"
    # Better: your own face-recognition weights, --config.model.pretrained=FILE.
    config.model.pretrained = "imagenet"
    config.augment.rotation = 10.0
    config.augment.zoom = 0.1
    config.augment.erase = 0.5
    config.augment.blur = 0.004
    config.augment.noise = 0.01
    config.train.epochs = 40
    config.train.head_epochs = 2
    config.train.patience = 0
    # Square-root sampling, because full oversampling costs accuracy on RAF-DB.
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
