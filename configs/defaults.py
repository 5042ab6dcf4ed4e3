"""Every field of a run, with its default. An experiment's file changes what differs.

All values here can be changed on the command line: `--config.train.epochs=50`; `none` unsets a
field that is unset here.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Returns the defaults; `fer_jax.config.load` locks what an experiment made of them."""
    config = ConfigDict()

    # Seeds everything random: initial weights, order of the images, augmentation, dropout.
    config.seed = 0

    config.data = ConfigDict()
    # Data set: a name that `python -m tfds_builders.build` knows.
    config.data.name = "synthetic_faces"
    # How the set's faces are cut and stored, a variant of the set; unset is its default.
    config.data.config = placeholder(str)
    # Who is in which split: a protocol of the set, or a fold such as fold3of10; unset is its
    # default, which shares nobody between the splits where people are known.
    config.data.protocol = placeholder(str)
    # Seeds what the protocol draws.
    config.data.protocol_seed = 0
    # Where prepared sets live; unset is TFDS_DATA_DIR or ~/tensorflow_datasets.
    config.data.dir = placeholder(str)
    # Where the files lie that a set's owner sent; unset is <data.dir>/downloads/manual.
    config.data.manual_dir = placeholder(str)
    # How faces are cut out of the set's pictures, where it is to be otherwise than in the variant.
    config.data.crop = ConfigDict()
    # Added around the face on each side, as a share of its box's longer side.
    config.data.crop.margin = placeholder(float)
    # Smallest face that is accepted, as a share of the picture's shorter side.
    config.data.crop.min_share = placeholder(float)
    # "haar" (frontal, then profile), "haar_frontal", or the file of a YuNet model (.onnx).
    config.data.crop.detector = placeholder(str)
    # Where no face is found: "view" (the camera view's own box, if known) or "whole".
    config.data.crop.fallback = placeholder(str)
    # Longest side of the stored faces in pixels.
    config.data.crop.longest_side = placeholder(int)
    # Side of the square input in pixels.
    config.data.size = 100
    # Cut pictures to their face box, widened on each side by this share of its longer side; unset
    # keeps them as they are stored. For sets whose stored pictures are not cut to the face yet.
    config.data.face_margin = placeholder(float)
    # What is black outside the face: "none", "ellipse", "landmarks"; "auto" is the protocol's.
    config.data.mask = "auto"
    # How pixels become network input: "unit" [0, 1], "symmetric" [-1, 1], "standardize" (zero
    # mean and unit variance per image), "weights" (as the pretrained weights expect them); "auto"
    # is "weights" where model.pretrained names some, else "standardize".
    config.data.normalize = "auto"

    config.model = ConfigDict()
    # Network: a name of fer_jax/models/registry.py.
    config.model.name = "light_vgg"
    # The next five belong to the network: unset is its own, and one that it has not is refused.
    # Share of the dense activations dropped in training.
    config.model.dropout = placeholder(float)
    # Widths of the dense layers before the classes, such as 512,512.
    config.model.head_widths = placeholder(tuple)
    # How vgg16 and inception_resnet_v2 pool their last features: "average" or "max".
    config.model.pooling = placeholder(str)
    # Whether custom_cnn normalises behind its convolutions; the paper's does not.
    config.model.batch_norm = placeholder(bool)
    # Whether vgg16 and inception_resnet_v2 compute blocks again in the backward pass: slower, but
    # larger batches fit into memory.
    config.model.remat = placeholder(bool)
    # Type of the computation, float32 or bfloat16; parameters are always float32.
    config.model.dtype = "float32"
    # Weights to begin with: "none" (random), "imagenet" (Keras' published ones: from the cache,
    # else downloaded), a file that `python -m fer_jax.port_weights` wrote, or the directory of
    # another run.
    config.model.pretrained = "none"
    # What does not learn: "none", "backbone", or a block of the network: it and all before it.
    config.model.freeze = "none"

    # Random changes of training images; 0 switches a change off.
    config.augment = ConfigDict()
    # Probability of a left-right flip.
    config.augment.flip = 0.5
    # Largest rotation either way, degrees.
    config.augment.rotation = 10.0
    # Largest relative change of size either way.
    config.augment.zoom = 0.1
    # Largest move either way along each axis, as a share of the side.
    config.augment.shift = 0.06
    # Largest relative change of brightness either way.
    config.augment.brightness = 0.2
    # Largest relative change of contrast either way.
    config.augment.contrast = 0.2

    config.train = ConfigDict()
    # Images per step, over all devices.
    config.train.batch_size = 64
    # Passes over the training images.
    config.train.epochs = 30
    # So many of the epochs come first and train the head alone; 0 trains all from the start.
    config.train.head_epochs = 0
    # Validation, early stopping and checkpoint come every so many epochs.
    config.train.eval_epochs = 1
    # Stop after so many validations without a better accuracy; 0 never stops early.
    config.train.patience = 10
    # Share of the target probability that is spread over all classes.
    config.train.label_smoothing = 0.0
    # Metrics are written every so many steps.
    config.train.log_steps = 20

    config.optim = ConfigDict()
    # "adam", "adamw" or "sgd" (Nesterov momentum 0.9).
    config.optim.name = "adam"
    # Highest learning rate.
    config.optim.learning_rate = 1e-3
    # Decoupled weight decay of kernels, for adamw and sgd.
    config.optim.weight_decay = 0.0
    # "cosine" (down to 1 % of the highest at the last step) or "constant", after the warm-up.
    config.optim.schedule = "cosine"
    # Highest learning rate after train.head_epochs.
    config.optim.finetune_rate = 1e-4
    # Linear warm-up over this share of all steps, after train.head_epochs again.
    config.optim.warmup = 0.05

    config.eval = ConfigDict()
    # Images per evaluation step, over all devices.
    config.eval.batch_size = 256
    # Test pictures shown in the report with their probabilities.
    config.eval.samples = 6

    return config
