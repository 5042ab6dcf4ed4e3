"""One image of a set, as a builder describes it from file names and label files.

`crops` reads the image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fer_jax.faces.align import Landmarks
from fer_jax.faces.crop import RelativeBox
from tfds_builders import protocols


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One image of a set.

    Attributes:
      id: unique in the set, the same in every copy.
      file: name in the source; with `pixels`, the file that they come from.
      label: one of the emotions of `fer_jax.labels`.
      subject: the person, video, movie or photo that must not be in two splits; "" if unknown.
      split: the TFDS split it is stored in: "train", "validation" or "test" if the set defines
        splits, else `protocols.STORED`. Records of a split are consecutive.
      stratum: what `protocols.by_group` balances, such as the gender; one value per subject.
      view_box: where faces are in images of this camera view, as shares of the image.
      face_box: x, y, width, height of the face in pixels, if the set ships it.
      landmarks: float[5, 2], `faces.align.Landmarks` in pixels of the image, if the set ships
        them.
      misnamed: the wrong name of the file in this copy, if it has one.
      extras: values of the set's additional features.
      pixels: for images that are not files (rows of a csv, frames of a video): returns
        uint8[H, W, 3] RGB or uint8[H, W] gray. Called once per preparation, in the order of the
        records, from one thread, and only when the result fits in memory, so records of a video
        in order of time may share an open decoder. `UnreadableError` and `sources.MemberError`
        drop the record. It should reference little memory.
    """

    id: str
    file: str
    label: str
    subject: str
    split: str = protocols.STORED
    stratum: str = ""
    view_box: RelativeBox | None = None
    face_box: tuple[int, int, int, int] | None = None
    landmarks: Landmarks | None = None
    misnamed: str = ""
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pixels: Callable[[], np.ndarray] | None = None

    @property
    def row(self) -> protocols.Row:
        """The part that protocols use."""
        return protocols.Row(self.id, self.label, self.subject, self.split, self.stratum)
