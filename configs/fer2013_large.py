"""FER2013 on a GPU, from scratch: ResNet-18 at 48 pixels, SGD with momentum, ten test crops.

Published accuracy of this recipe on PrivateTest: 73.7, and 73.1 with VGG19. As published, dropout
of the pooled features is 0.5. The small stem keeps the first feature maps at 48 pixels.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "fer2013"
    config.data.size = 48
    config.model.name = "resnet18"
    config.model.small_stem = True
    config.model.dropout = 0.5
    # The images are gray, small and tightly cropped: no color jitter, no blur.
    config.augment.rotation = 10.0
    config.augment.zoom = 0.1
    config.augment.shift = 0.1
    config.augment.blur = 0.0
    config.augment.noise = 0.0
    config.augment.saturation = 0.0
    config.augment.erase = 0.25
    config.train.batch_size = 128
    config.train.epochs = 120
    config.train.patience = 0
    config.train.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.momentum = 0.9
    config.optim.weight_decay = 5e-4
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.999
    config.eval.tta = "tencrop"
    return config
