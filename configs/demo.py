"""The demo: LightVGG on the synthetic faces that come with the project; minutes on a CPU."""

from ml_collections import ConfigDict

from fer_jax.config import defaults


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults()
    config.data.name = "synthetic_faces"
    config.data.config = "demo"
    config.data.size = 48
    config.data.face_margin = 0.05
    config.model.name = "light_vgg"
    config.model.dropout = 0.3
    # The recipe was tuned without these.
    config.augment.blur = 0.0
    config.augment.noise = 0.0
    config.augment.saturation = 0.0
    config.train.epochs = 40
    config.train.eval_epochs = 2
    config.train.label_smoothing = 0.05
    config.optim.learning_rate = 2e-3
    return config
