"""The splits of each config: different people, from different seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfds_builders.synthface.presets import PRESETS
from tfds_builders.synthface.spec import Spec

TRAIN_SEED = 1
VALIDATION_SEED = 2
TEST_SEED = 3  # fixed before any network was trained; never used for tuning
SEEDS = {"train": TRAIN_SEED, "validation": VALIDATION_SEED, "test": TEST_SEED}


@dataclasses.dataclass(frozen=True)
class Extent:
    """The preset, the people in train, validation and test, and the image side in pixels."""

    preset: str
    people: tuple[int, int, int]
    size: int


CONFIGS: dict[str, Extent] = {
    "demo": Extent("demo", (320, 60, 100), 64),
    "demo_128": Extent("demo", (320, 60, 100), 128),
    "kdef_like": Extent("kdef_like", (48, 8, 14), 128),  # KDEF has 70 people
    "rafd_like": Extent("rafd_like", (46, 8, 13), 128),  # RaFD has 67
    "wild": Extent("wild", (1000, 150, 300), 100),  # RAF-DB's faces are 100 pixels
}


def specs(
    config: str, people: Sequence[int] | None = None, size: int | None = None
) -> dict[str, Spec]:
    """Split name to render spec; `people` and `size` override the config."""
    extent = CONFIGS[config]
    counts = zip(SEEDS.items(), people or extent.people, strict=True)
    preset = PRESETS[extent.preset]
    return {split: preset(seed, count, size or extent.size) for (split, seed), count in counts}
