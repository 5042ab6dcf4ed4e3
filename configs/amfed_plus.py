"""The paper's AM-FED+ experiment, on unseen videos: InceptionResNetV2, 224 pixels, seven classes.

The data set has no emotion labels: they are derived from action units, and reports note it. The
paper's protocol, a random split of frames, is configs/amfed_plus_paper.py.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "amfed_plus"
    config.data.protocol = "video"
    config.data.size = 224
    config.model.name = "inception_resnet_v2"
    config.model.pretrained = "imagenet"
    config.train.batch_size = 32
    return config
