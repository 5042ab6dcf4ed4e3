"""Every config field with its default. An experiment's file sets only what differs.

The command line overrides both: `--config.train.epochs=50`. `none` unsets a field whose default
is unset.
"""

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder


def duration(plain: float) -> FieldReference:
    """A field that takes a number, or one with a unit: "30ep", "2000st", "50000ex" or "5%".

    The units are epochs, steps, examples and the share of all steps. The unit of a plain number
    is in the field's comment.
    """
    return FieldReference(plain, field_type=object)


def get_config() -> ConfigDict:
    """Returns the defaults; `fer_jax.config.load` locks an experiment's changed copy."""
    config = ConfigDict()

    # Random seed of initial weights, image order, augmentation and dropout.
    config.seed = 0
    # Your own parts: .py files or modules that register networks, optimizers, augmentations or data
    # sets, with commas between them. They are executed.
    config.plugins = ()
    # Trackers beside TensorBoard: wandb, mlflow or both. Each needs the extra of its name.
    config.trackers = ()

    config.data = _data()
    config.model = _model()
    config.augment = _augment()
    config.train = _train()
    config.optim = _optim()
    config.eval = _eval()
    return config


def _data() -> ConfigDict:
    """Data set, splits and preprocessing."""
    data = ConfigDict()
    # Data set: a name from `fer-jax prepare --help`, or your own.
    data.name = "synthetic_faces"
    # Variant of the data set, which says how faces are cropped and stored. Unset: the set's
    # default.
    data.config = placeholder(str)
    # Split protocol of the data set, or one fold such as fold3of10. Unset: the set's default, in
    # which no person is in two splits, if people are known.
    data.protocol = placeholder(str)
    # Random seed of protocols that split at random.
    data.protocol_seed = 0
    # Directory of prepared data sets. Unset: TFDS_DATA_DIR, or ~/tensorflow_datasets.
    data.dir = placeholder(str)
    # Directory of the original files of a data set. Unset: <data.dir>/downloads/manual.
    data.manual_dir = placeholder(str)
    # Table of decisions about labels, as `fer-jax labels` writes it: relabel.csv. It applies to all
    # splits, not to votes. Unset: the set's own labels.
    data.relabel = placeholder(str)
    # Train on so many images only, such as for a learning curve: a sample of the train split drawn
    # with protocol_seed, in which each class keeps its share. Smaller samples are parts of larger
    # ones. Unset: all images.
    data.train_images = placeholder(int)

    # Overrides of the variant's face crop. Unset: as in the variant.
    data.crop = ConfigDict()
    # Margin on each side of the face box, as a share of its longer side.
    data.crop.margin = placeholder(float)
    # Smallest accepted face, as a share of the image's shorter side.
    data.crop.min_share = placeholder(float)
    # Face detector: "mtcnn", "haar" (frontal, then profile), "haar_frontal", or a YuNet model file.
    data.crop.detector = placeholder(str)
    # Crop of an image without a detected face: "view" (the camera view's usual box, if known) or
    # "whole".
    data.crop.fallback = placeholder(str)
    # Longest side of stored faces, pixels.
    data.crop.longest_side = placeholder(int)

    # Side of the square network input, pixels.
    data.size = 100
    # Crop stored images to the face box, with this margin on each side as a share of its longer
    # side. Unset: no crop. For data sets stored without a face crop.
    data.face_margin = placeholder(float)
    # Region outside of which pixels are set to black: "none", "ellipse" or "landmarks". "auto": as
    # the protocol says.
    data.mask = "auto"
    # Input normalization: "unit" ([0, 1]), "symmetric" ([-1, 1]), "standardize" (zero mean and
    # unit variance per image) or "weights" (as the pretrained weights expect). "auto": "weights"
    # if model.pretrained is set, else "standardize".
    data.normalize = "auto"
    # What training fits: "majority" (the label) or "votes" (the share of each class in the votes,
    # for sets that store them: ferplus). Metrics and evaluation use the label.
    data.targets = "majority"
    # Where decoded training images are stored: "device" (device memory), "host" (main memory) or
    # "stream" (decoded on demand, for sets larger than memory). "auto": the first that fits; on
    # CPUs never "device". The batches are the same.
    data.store = "auto"
    return data


def _model() -> ConfigDict:
    """Network and initial weights.

    An unset field takes the network's default; setting one that the network does not have is an
    error.
    """
    model = ConfigDict()
    # Network: light_vgg, custom_cnn, vgg16, inception_resnet_v2, resnet18, resnet50,
    # resnet50_caffe, senet50, ir50, face_resnet or your own.
    model.name = "light_vgg"

    # Filters of each block (light_vgg, such as 32,64,128) or of each of the four layers (ResNets,
    # such as 24,48,96,160). Published weights fit the default only.
    model.widths = placeholder(tuple)
    # Dropout rate of the dense layers, in [0, 1].
    model.dropout = placeholder(float)
    # Widths of the dense layers before the logits, such as 512,512.
    model.head_widths = placeholder(tuple)
    # Pooling of the last features: "average" or "max" (vgg16, inception_resnet_v2, ResNets,
    # ir50, face_resnet).
    model.pooling = placeholder(str)
    # BatchNorm after the convolutions (custom_cnn). The paper's network has none.
    model.batch_norm = placeholder(bool)
    # 3x3 first convolution with stride 1 and no pooling, for images of 32 to 64 pixels (ResNets).
    # Published weights do not fit.
    model.small_stem = placeholder(bool)
    # Recompute blocks in the backward pass: less memory, more time (vgg16, inception_resnet_v2,
    # ResNets, ir50, face_resnet).
    model.remat = placeholder(bool)

    # Compute dtype: float32, bfloat16, or "auto": bfloat16 on TPUs and on NVIDIA GPUs since Ampere
    # if a step of the network agrees with float32's, else float32. Parameters are float32.
    model.dtype = "float32"
    # Initial weights: "none" (random), "imagenet" (published by Keras or torchvision; downloaded
    # if not cached), a file written by `fer-jax port-weights`, or a run directory.
    model.pretrained = "none"
    # Frozen layers: "none", "backbone" (all but the dense layers), or a block of the network, which
    # freezes it and all earlier layers.
    model.freeze = "none"
    # Further heads beside the classes: "units" (facial action units; synthetic_faces, amfed_plus)
    # and "valence_arousal" (affectnet), or both.
    model.heads = ()
    return model


def _augment() -> ConfigDict:
    """Random augmentation of training images; 0 disables a transform.

    `fer-jax preview` shows the result.
    """
    augment = ConfigDict()
    # Probability of a left-right flip.
    augment.flip = 0.5
    # Maximum rotation in either direction, degrees.
    augment.rotation = 10.0
    # Maximum relative change of size.
    augment.zoom = 0.1
    # Maximum shift along each axis, as a share of the side.
    augment.shift = 0.06
    # Maximum standard deviation of a Gaussian blur, as a share of the side.
    augment.blur = 0.008
    # Maximum standard deviation of Gaussian noise, as a share of the range 0..255.
    augment.noise = 0.02
    # Maximum relative change of brightness.
    augment.brightness = 0.2
    # Maximum relative change of contrast.
    augment.contrast = 0.2
    # Maximum relative change of saturation.
    augment.saturation = 0.2
    # Maximum relative change of each color channel.
    augment.tint = 0.0
    # Probability of random erasing: a rectangle of 2 to 25 % of the image, filled with the mean.
    augment.erase = 0.0
    # Probability of mixup: blending an image and its label with another of the batch.
    augment.mixup = 0.0
    # Mixup's Beta distribution: 1 is uniform; below 1, one image dominates.
    augment.mixup_alpha = 0.2
    # Probability of CutMix: pasting a rectangle of another image of the batch. mixup + cutmix must
    # be at most 1.
    augment.cutmix = 0.0
    # CutMix's Beta distribution of the rectangle's area.
    augment.cutmix_alpha = 1.0
    # Your own augmentations, in this order, after those above and before mixup and CutMix.
    augment.extra = ()
    return augment


def _train() -> ConfigDict:
    """Batches, durations, checkpoints and the loss."""
    train = ConfigDict()
    # Images per step, over all devices.
    train.batch_size = 64
    # Micro-batches per step, processed one after the other to save memory. 1: the whole batch at
    # once.
    train.accumulate = 1
    # FSDP group size: how many devices shard one copy of the parameters and optimizer state. Must
    # divide the device count. 1: every device has a full copy.
    train.fsdp = 1
    # Training length, epochs. Durations accept units: "30ep" epochs, "2000st" steps, "50000ex"
    # examples, "5%" of all steps (not here).
    train.epochs = duration(30)
    # Epochs at the start that train only the head. 0: all layers from the start.
    train.head_epochs = duration(0)
    # Epochs between validations; early stopping and checkpoints follow them.
    train.eval_epochs = duration(1)
    # Early stopping: validations without improvement. 0: never.
    train.patience = duration(10)
    # Validation metric that selects the best checkpoint: "accuracy", "balanced_accuracy",
    # "macro_f1", "loss", or of model.heads: "units_f1" (macro F1 of the action units) or "ccc"
    # (mean concordance of valence and arousal).
    train.monitor = "accuracy"
    # Class balancing: "none", "oversample" (all classes equally often), "sqrt" (sampled in
    # proportion to the square root of their size) or "class_weights" (in the loss).
    train.balance = "none"
    # Label smoothing, in [0, 1]: share of the target probability spread over all classes.
    train.label_smoothing = 0.0
    # Focal-loss gamma: down-weights confident examples. 0: plain cross-entropy.
    train.focal_gamma = 0.0
    # Share of the training labels that are wrong, at a guess: the loss allows for it. 0: none.
    train.label_noise = 0.0
    # Weight of the loss of each of model.heads; that of the classes is 1.
    train.heads_weight = 1.0
    # Teachers: run directories, or the shipped ferplus, with commas between them. Training fits
    # the mean of their probabilities for each training image instead of its label or votes.
    train.teacher = ()
    # Steps between log lines.
    train.log_steps = duration(20)
    # Steps per compiled program; validations, log lines and checkpoints wait for its end. Unset: 1
    # on CPUs, up to 16 on accelerators.
    train.steps_per_dispatch = placeholder(int)
    # Newest checkpoints to keep, besides the best one. At least 2.
    train.keep = 2
    # Misclassified validation images in TensorBoard, with the confusion matrix, at each new best
    # validation. 0: neither.
    train.pictures = 8
    return train


def _optim() -> ConfigDict:
    """Optimizer and learning rate."""
    optim = ConfigDict()
    # Optimizer: "adam", "adamw", "sgd", "lamb", "lion" or your own.
    optim.name = "adam"
    # Peak learning rate.
    optim.learning_rate = 1e-3
    # Nesterov momentum of sgd. 0: plain sgd.
    optim.momentum = 0.9
    # Decoupled weight decay of kernels (all optimizers but adam).
    optim.weight_decay = 0.0
    # Global gradient-norm clip. 0: disabled.
    optim.clip_norm = 0.0
    # SAM radius (sharpness-aware minimization); 0.05 is usual, and a step costs twice as much. 0:
    # disabled.
    optim.sam_rho = 0.0
    # Decay of the weights' exponential moving average, used for validation and all later use;
    # 0.999 is usual. 0: disabled.
    optim.ema_decay = 0.0
    # Schedule after the warm-up: "cosine" (to 1 % of the peak at the last step), "step", "plateau"
    # or "constant".
    optim.schedule = "cosine"
    # Factor of each learning-rate decay of "step" and "plateau".
    optim.decay_factor = 0.1
    # Epochs between decays of "step".
    optim.decay_every = duration(10)
    # Validations without improvement before a decay of "plateau".
    optim.plateau_patience = 3
    # Peak learning rate after train.head_epochs.
    optim.finetune_rate = 1e-4
    # Linear warm-up, as a share of all steps; repeated after train.head_epochs.
    optim.warmup = duration(0.05)
    return optim


def _eval() -> ConfigDict:
    """Evaluation and report."""
    evaluation = ConfigDict()
    # Images per evaluation step, over all devices.
    evaluation.batch_size = 256
    # Test-time augmentation, averaging probabilities: "none", "flip" (with the mirror image) or
    # "tencrop" (corners, center and their mirror images). Reports name it.
    evaluation.tta = "none"
    # Fit a temperature on validation at the end of training, so that confidence matches accuracy.
    # Predictions, reports and exports use it; the predicted class stays the same.
    evaluation.calibrate = False
    # Test images shown in the report with their probabilities.
    evaluation.samples = 6
    # Grad-CAM of the report's examples.
    evaluation.explain = True
    return evaluation
