"""Fits the recipe for a user's own images (configs/own_photos.py) to a folder of them.

Decides between face crops and photos, and the batch size and length that suit the number of images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from fer_jax import buckets
from fer_jax.durations import STEPS
from fer_jax.errors import UserError
from tfds_builders import protocols
from tfds_builders.image_folder import image_folder_dataset_builder as image_folder
from tfds_builders.image_folder import sample, tree

CONFIG = "configs/own_photos.py"

_BATCH_SIZES = {100: 16, 1000: 32, 10_000: 64}
"""Batch size of training sets below a number of images."""
_LARGEST_BATCH = 128

# Examples of a run: small sets need many epochs, large ones some.
_EXAMPLES_PER_ROOT = 650
_MIN_EPOCHS = 15

_TRAIN_SHARE = 0.7  # of folders without splits, as `protocols.by_group` draws them


@dataclasses.dataclass(frozen=True)
class Fit:
    """What the folder decides.

    Attributes:
      overrides: of config fields, such as "train.batch_size=32".
      lines: describe folder and decisions.
    """

    overrides: tuple[str, ...]
    lines: tuple[str, ...]


def fit(folder: str, chosen: Sequence[str] = ()) -> Fit:
    """Fits the recipe to a folder, or an archive of one.

    Args:
      folder: as for `fer-jax prepare image_folder`.
      chosen: the user's overrides; `data.config=...` saves the look at the images.

    Raises:
      UserError: it contains no images in class folders.
    """
    if not folder.strip():
        raise UserError(f"expected a folder of images, found no name.\n{image_folder.HOW_TO_GET}")
    place = buckets.local_path(folder).absolute()
    source = image_folder.open_folder(place)
    layout, named = tree.parse(source), buckets.origin(place)
    overrides, lines = [f"data.manual_dir={named}"], [f"{named}: {_describe(layout)}"]
    if not any(override.startswith("data.config=") for override in chosen):
        seen = sample.read_sample(source, [layout.root + file for file in layout.files])
        other = "face" if seen.are_crops else "pad"
        lines.append(f"{seen} (otherwise: --config.data.config={other})")
        overrides.append(f"data.config={'pad' if seen.are_crops else 'face'}")
    batch_size, steps = schedule(_count_training(layout))
    overrides += [f"train.batch_size={batch_size}", f"train.epochs={steps}{STEPS}"]
    lines.append(f"recipe for their number: at most {steps:,} steps of {batch_size} images")
    return Fit(tuple(overrides), tuple(lines))


def schedule(images: int) -> tuple[int, int]:
    """Returns batch size and number of steps for a number of training images."""
    batch_size = next(
        (size for limit, size in _BATCH_SIZES.items() if images < limit), _LARGEST_BATCH
    )
    examples = max(_EXAMPLES_PER_ROOT * math.sqrt(images), _MIN_EPOCHS * images)
    return batch_size, math.ceil(examples / batch_size)


def _count_training(layout: tree.Tree) -> int:
    if not layout.splits:
        return max(1, round(_TRAIN_SHARE * len(layout.files)))
    return sum(layout.split_of(file) == protocols.TRAIN for file in layout.files)


def _describe(layout: tree.Tree) -> str:
    people = f", {len(layout.people)} person folders" if layout.people else ""
    return (
        f"{len(layout.files):,} images, {len(layout.classes)} classes "
        f"({', '.join(layout.classes.values())}){people}"
    )
