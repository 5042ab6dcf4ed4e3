"""Shows augmented training images before a run is started.

    fer-jax preview --config configs/demo.py --out preview.png

Writes a grid with one row per image: the original, each enabled change alone, and all changes as
in training. TensorBoard shows the same grid.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fer_jax import config as configuration
from fer_jax.files import local_path


def main(arguments: Sequence[str]) -> None:
    """The command line.

    Raises:
      UserError: input that cannot be used.
    """
    options, overrides = parse(arguments)
    settings = configuration.load_settings(options.config, overrides)
    out = options.out or Path("runs") / Path(options.config).stem / "preview" / "augmentation.png"

    # Importing JAX and TFDS takes seconds; wrong input is reported before.
    import numpy as np

    from fer_jax import files
    from fer_jax.data.augment_preview import draw_grid
    from fer_jax.data.records import open_split
    from fer_jax.data.sampling import BatchSampler
    from fer_jax.monitor.tensorboard import TensorBoardWriter
    from fer_jax.report import png
    from fer_jax.runtime import sharding
    from fer_jax.training.build import data_arguments, make_preprocessing
    from fer_jax.training.initial_weights import find_initial_weights
    from tfds_builders.prepare import prepare

    weights = find_initial_weights(settings, sharding.one_device_mesh())
    data = prepare(**data_arguments(settings))
    preprocessing = make_preprocessing(
        settings, weights.normalization if weights else None, data.metadata["mask"]
    )
    split = open_split(data, "train", preprocessing)
    rows = BatchSampler(
        split.labels, settings.train.batch_size, settings.seed, settings.train.balance
    ).rows(0)[0, : options.images]
    images = np.stack([split.read(row) for row in rows])
    grid = draw_grid(images, settings.augment, settings.seed)
    files.write_bytes(out, png.encode(grid))
    writer = TensorBoardWriter(out.parent)
    writer.write_images(0, {"augmentation": grid})
    writer.close()
    print(f"{len(rows)} training images of {data.full_name}: {out}")
    print(f"in TensorBoard: tensorboard --logdir {out.parent}")


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the overrides of config fields as "augment.rotation=20"."""
    parser = argparse.ArgumentParser(
        prog="fer-jax preview",
        description=(__doc__ or "").split("\n")[0],
        epilog="Any field of configs/defaults.py: --config.augment.rotation=20",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="config file, such as configs/demo.py")
    parser.add_argument(
        "--out",
        type=local_path,
        help="PNG file (default: runs/<config name>/preview/augmentation.png)",
    )
    parser.add_argument("--images", type=_count, default=6, help="rows of the grid (default: 6)")
    options, rest = parser.parse_known_args(arguments)
    return options, configuration.overrides_in(rest, "--config FILE, --out FILE, --images N")


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 64:
        raise argparse.ArgumentTypeError(f"expected 1 to 64, found {count}")
    return count
