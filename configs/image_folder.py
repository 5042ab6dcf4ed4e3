"""Your own images, thousands of them: LightVGG from random weights, 100 pixels.

For fewer, `fer-jax train --data FOLDER` (configs/own_photos.py) starts from trained weights.

Set --config.data.manual_dir=FOLDER. For photos that show more than a face, also
--config.data.config=face.
"""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "image_folder"
    config.data.size = 100
    config.model.name = "light_vgg"
    return config
