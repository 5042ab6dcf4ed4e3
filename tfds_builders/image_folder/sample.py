"""Tells face crops from photos that show more, by the faces in a sample of a folder's images."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from fer_jax.faces.decode import UnreadableError, decode
from fer_jax.faces.detect import MtcnnDetector
from tfds_builders import sources

SIZE = 32
"""Images that are read: their median decides, so that a few odd ones do not matter."""

_MIN_SHARE = 0.1  # smallest face, as a share of the image's shorter side
# On rendered faces: 0.7 in crops with a margin of a tenth of the box, 0.55 with one of 0.3, 0.5 in
# images of a head, 0.3 to 0.4 in portraits. Crops of 48 pixels often have no face for a detector.
_FILLS = 0.55
_FOUND = 0.25


@dataclasses.dataclass(frozen=True)
class Sample:
    """The faces in a sample of images.

    Attributes:
      images: number of images that could be read.
      shares: for each of those with a face, how much the largest one fills: the root of its share
        of the image's area, in (0, 1].
    """

    images: int
    shares: tuple[float, ...]

    @property
    def are_crops(self) -> bool:
        """Whether the images are face crops; also if hardly any has a face that can be detected."""
        if len(self.shares) < _FOUND * self.images or not self.shares:
            return True
        return statistics.median(self.shares) >= _FILLS

    def __str__(self) -> str:
        """Describes the faces, and what follows."""
        if not self.shares:
            seen = f"none of {self.images} images has a face that the detector finds"
        else:
            area = statistics.median(self.shares) ** 2
            seen = (
                f"{len(self.shares)} of {self.images} images have a face, which covers {area:.0%} "
                "of the image (median)"
            )
        if self.are_crops:
            return f"{seen}: taken as face crops, used whole"
        return f"{seen}: taken as photos, whose faces are detected and cropped"


def read_sample(source: sources.Source, files: Sequence[str]) -> Sample:
    """Detects faces in at most `SIZE` evenly spaced images; skips those that cannot be read.

    Args:
      source: the user's folder or archive.
      files: the images, as the source names them.
    """
    count = min(SIZE, len(files))
    detector = MtcnnDetector(_MIN_SHARE)
    images, shares = 0, []
    for number in range(count):
        try:
            image = decode(source.read(files[number * len(files) // count]))
        except (UnreadableError, sources.MemberError):
            continue
        images += 1
        if faces := detector.detect(image):
            _, _, width, height = faces[0].box
            shares.append(math.sqrt(width * height / (image.shape[0] * image.shape[1])))
    return Sample(images, tuple(shares))
