"""Your own pictures: LightVGG, 100 pixels, the classes of your folders.

Name the folder: --config.data.manual_dir=FOLDER. Photographs that show more than a face:
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
