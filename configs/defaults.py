"""Every field of a run, with its default. An experiment's file changes what differs.

All values here can be changed on the command line: `--config.train.epochs=50`; `none` unsets a
field that is unset here.
"""

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder


def duration(plain: float) -> FieldReference:
    """A field that takes a plain number, whose unit its comment names, or one with a unit.

    "30ep" is epochs, "2000st" steps, "50000ex" examples, "5%" of all steps.
    """
    return FieldReference(plain, field_type=object)


def get_config() -> ConfigDict:
    """Returns the defaults; `fer_jax.config.load` locks what an experiment made of them."""
    config = ConfigDict()

    # Seeds everything random: initial weights, order of the images, augmentation, dropout.
    config.seed = 0

    config.data = _data()
    config.model = _model()
    config.augment = _augment()
    config.train = _train()
    config.optim = _optim()
    config.eval = _eval()
    return config


def _data() -> ConfigDict:
    """The pictures: which set, how it is split, how faces become input."""
    data = ConfigDict()
    # Data set: a name that `fer-jax prepare` knows.
    data.name = "synthetic_faces"
    # How the set's faces are cut and stored, a variant of the set; unset is its default.
    data.config = placeholder(str)
    # Who is in which split: a protocol of the set, or a fold such as fold3of10; unset is its
    # default, which shares nobody between the splits where people are known.
    data.protocol = placeholder(str)
    # Seeds what the protocol draws.
    data.protocol_seed = 0
    # Where prepared sets live; unset is TFDS_DATA_DIR or ~/tensorflow_datasets.
    data.dir = placeholder(str)
    # Where the files lie that a set's owner sent; unset is <data.dir>/downloads/manual.
    data.manual_dir = placeholder(str)
    # How faces are cut out of the set's pictures, where it is to be otherwise than in the variant.
    data.crop = ConfigDict()
    # Added around the face on each side, as a share of its box's longer side.
    data.crop.margin = placeholder(float)
    # Smallest face that is accepted, as a share of the picture's shorter side.
    data.crop.min_share = placeholder(float)
    # "haar" (frontal, then profile), "haar_frontal", or the file of a YuNet model (.onnx).
    data.crop.detector = placeholder(str)
    # Where no face is found: "view" (the camera view's own box, if known) or "whole".
    data.crop.fallback = placeholder(str)
    # Longest side of the stored faces in pixels.
    data.crop.longest_side = placeholder(int)
    # Side of the square input in pixels.
    data.size = 100
    # Cut pictures to their face box, widened on each side by this share of its longer side; unset
    # keeps them as they are stored. For sets whose stored pictures are not cut to the face yet.
    data.face_margin = placeholder(float)
    # What is black outside the face: "none", "ellipse", "landmarks"; "auto" is the protocol's.
    data.mask = "auto"
    # How pixels become network input: "unit" [0, 1], "symmetric" [-1, 1], "standardize" (zero
    # mean and unit variance per image), "weights" (as the pretrained weights expect them); "auto"
    # is "weights" where model.pretrained names some, else "standardize".
    data.normalize = "auto"

    # Where the decoded pictures are in training: "device" (its memory), "host" (main memory, from
    # a cache on disk), "stream" (decoded as they are needed, for sets larger than memory) or
    # "auto". The batches are the same.
    data.store = "auto"
    return data


def _model() -> ConfigDict:
    """The network and the weights it begins with."""
    model = ConfigDict()
    # Network: a name of fer_jax/models/registry.py.
    model.name = "light_vgg"
    # The next six belong to the network: unset is its own, and one that it has not is refused.
    # Share of the dense activations dropped in training.
    model.dropout = placeholder(float)
    # Widths of the dense layers before the classes, such as 512,512.
    model.head_widths = placeholder(tuple)
    # How vgg16, inception_resnet_v2 and the ResNets pool their last features: "average", "max".
    model.pooling = placeholder(str)
    # Whether custom_cnn normalises behind its convolutions; the paper's does not.
    model.batch_norm = placeholder(bool)
    # Whether resnet18 and resnet50 begin with a 3x3 convolution of stride 1 and no pooling, for
    # pictures of 32 to 64 pixels; published weights do not fit then.
    model.small_stem = placeholder(bool)
    # Whether vgg16, inception_resnet_v2 and the ResNets compute blocks again in the backward pass:
    # slower, but larger batches fit into memory.
    model.remat = placeholder(bool)
    # Type of the computation, float32 or bfloat16; parameters are always float32.
    model.dtype = "float32"
    # Weights to begin with: "none" (random), "imagenet" (Keras' or torchvision's published ones:
    # from the cache, else downloaded), a file that `fer-jax port-weights` wrote, or the
    # directory of another run.
    model.pretrained = "none"
    # What does not learn: "none", "backbone", or a block of the network: it and all before it.
    model.freeze = "none"
    return model


def _augment() -> ConfigDict:
    """Random changes of training images; 0 switches a change off.

    `fer-jax preview` shows them.
    """
    augment = ConfigDict()
    # Probability of a left-right flip.
    augment.flip = 0.5
    # Largest rotation either way, degrees.
    augment.rotation = 10.0
    # Largest relative change of size either way.
    augment.zoom = 0.1
    # Largest move either way along each axis, as a share of the side.
    augment.shift = 0.06
    # Largest standard deviation of a Gaussian blur, as a share of the side.
    augment.blur = 0.008
    # Largest standard deviation of Gaussian noise, as a share of the range 0..255.
    augment.noise = 0.02
    # Largest relative change of brightness either way.
    augment.brightness = 0.2
    # Largest relative change of contrast either way.
    augment.contrast = 0.2
    # Largest relative change of saturation either way.
    augment.saturation = 0.2
    # Largest relative change of red, of green and of blue either way.
    augment.tint = 0.0
    # Probability that a rectangle (2 to 25 % of the image) is painted over with the mean.
    augment.erase = 0.0
    # Probability of blending an image and its label with another of the batch.
    augment.mixup = 0.0
    # Of the Beta distribution of the blend's shares: 1 is even, below it one image prevails.
    augment.mixup_alpha = 0.2
    # Probability of putting a rectangle of another image of the batch into an image; with mixup
    # at most 1, because an image is mixed in one way.
    augment.cutmix = 0.0
    # Of the Beta distribution of the rectangle's area.
    augment.cutmix_alpha = 1.0
    return augment


def _train() -> ConfigDict:
    """Batches, durations, what is the best checkpoint, the loss."""
    train = ConfigDict()
    # Images per step, over all devices.
    train.batch_size = 64
    # Parts that a batch is worked through in, one after the other, where memory is short.
    train.accumulate = 1
    # So many devices share one copy of the parameters and the optimizer's memory, where that does
    # not fit on each; it divides the number of devices. 1 gives each device its own.
    train.fsdp = 1
    # Passes over the training images. Durations take units: "30ep" epochs, "2000st" steps,
    # "50000ex" examples, "5%" of all steps (not here).
    train.epochs = duration(30)
    # So many of the epochs come first and train the head alone; 0 trains all from the start.
    train.head_epochs = duration(0)
    # Validation, early stopping and checkpoint come every so many epochs.
    train.eval_epochs = duration(1)
    # Stop after so many validations without a better one; 0 never stops early.
    train.patience = duration(10)
    # What makes a validation better and a checkpoint the best: "accuracy", "balanced_accuracy",
    # "macro_f1" or "loss".
    train.monitor = "accuracy"
    # How rare classes are favoured: "none", "oversample" (all classes equally often), "sqrt" (in
    # proportion to the root of their records) or "class_weights" (in the loss).
    train.balance = "none"
    # Share of the target probability that is spread over all classes.
    train.label_smoothing = 0.0
    # Gamma of the focal loss, which counts images the less the surer the network is; 0 is the
    # cross-entropy.
    train.focal_gamma = 0.0
    # Metrics are written every so many steps.
    train.log_steps = duration(20)
    # Steps that the device runs without the host; validations, log lines and checkpoints come at
    # the next multiple. Unset is 1 on CPUs and up to 16 on accelerators.
    train.steps_per_dispatch = placeholder(int)
    # So many of the newest checkpoints stay, beside the best one; at least 2.
    train.keep = 2
    # Wrongly classified validation pictures that TensorBoard shows with the confusion matrix when
    # a validation is the best so far; 0 draws neither.
    train.pictures = 8
    return train


def _optim() -> ConfigDict:
    """The optimizer and its learning rate."""
    optim = ConfigDict()
    # "adam", "adamw", "sgd", "lamb" or "lion".
    optim.name = "adam"
    # Highest learning rate.
    optim.learning_rate = 1e-3
    # Nesterov momentum of sgd; 0 is plain sgd.
    optim.momentum = 0.9
    # Decoupled weight decay of kernels, for all but adam.
    optim.weight_decay = 0.0
    # Longest gradient, as the norm over all parameters; 0 clips none.
    optim.clip_norm = 0.0
    # How far sharpness-aware minimisation climbs before it takes the gradient (0.05 is usual; a
    # step costs twice as much); 0 is off.
    optim.sam_rho = 0.0
    # Decay of a moving average of the weights, which validation and every later use then take
    # (0.999 is usual); 0 keeps none.
    optim.ema_decay = 0.0
    # After the warm-up: "cosine" (down to 1 % of the highest at the last step), "step" and
    # "plateau" (times decay_factor now and then), "constant".
    optim.schedule = "cosine"
    # What "step" and "plateau" multiply the learning rate by.
    optim.decay_factor = 0.1
    # "step" does so every so many epochs.
    optim.decay_every = duration(10)
    # "plateau" does so after so many validations without a better one.
    optim.plateau_patience = 3
    # Highest learning rate after train.head_epochs.
    optim.finetune_rate = 1e-4
    # Linear warm-up over this share of all steps, after train.head_epochs again.
    optim.warmup = duration(0.05)
    return optim


def _eval() -> ConfigDict:
    """How results are computed and shown."""
    evaluation = ConfigDict()
    # Images per evaluation step, over all devices.
    evaluation.batch_size = 256
    # Views of each image whose probabilities are averaged: "none" (one view), "flip" (and its
    # mirror image) or "tencrop" (corners, centre and their mirror images). Reports name it.
    evaluation.tta = "none"
    # Test pictures shown in the report with their probabilities.
    evaluation.samples = 6
    # Whether the report's page says why, of its examples (Grad-CAM).
    evaluation.explain = True
    return evaluation
