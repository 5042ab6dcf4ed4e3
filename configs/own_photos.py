"""Your own photos: the shipped FER+ network at 48 pixels, its head trained first, then all layers.

`fer-jax train --data FOLDER` starts from this file and fits batches, steps and face crop to the
folder. Without it, set --config.data.manual_dir=FOLDER, and --config.data.config=face for photos
that show more than a face.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "image_folder"
    config.data.size = 48
    config.data.config = "pad"
    # No margin around detected faces, as in FER+'s images.
    config.data.crop.margin = 0.0
    # The shipped network, and the fields that its weights need.
    config.model.pretrained = "ferplus"
    config.model.name = "light_vgg"
    config.model.widths = (32, 64, 128)
    config.model.head_widths = (512,)
    config.model.dropout = 0.5
    config.augment.erase = 0.25
    # For some hundred images. Steps do not depend on the size of the set, epochs would.
    config.train.batch_size = 32
    config.train.epochs = "300st"
    config.train.head_epochs = "10%"
    config.train.eval_epochs = "5%"
    config.train.patience = 8
    # A small validation split has few different accuracies.
    config.train.monitor = "loss"
    config.train.balance = "sqrt"
    config.train.label_smoothing = 0.1
    config.optim.name = "adamw"
    config.optim.weight_decay = 1e-2
    config.optim.clip_norm = 1.0
    config.optim.learning_rate = 1e-3
    config.optim.finetune_rate = 1e-3
    config.eval.batch_size = 64
    config.eval.tta = "flip"
    return config
