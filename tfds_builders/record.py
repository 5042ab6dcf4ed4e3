"""One picture of a set, as a builder reads it from names and label files.

Nothing here reads a picture; crops.py does, as a record asks.
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
    """One usable-looking picture of a set.

    Attributes:
      id: Unique in the set, the same in every copy of it.
      file: Its name in the source; where `pixels` is given, the file that those come from.
      label: One of the emotions of `fer_jax.labels`.
      subject: The person, video, movie or photo that must not be in two splits; "" if unknown.
      split: The TFDS split it is stored in: "train", "validation" or "test" where the set's
        owners say so, else `protocols.STORED`. All records of a split come in one run.
      stratum: What `protocols.by_group` balances, such as the gender; one value a subject.
      view_box: Where faces lie in pictures of this camera view, as shares of the picture.
      face_box: x, y, width, height of the face in pixels, where the set ships it.
      landmarks: float[5, 2], `Landmarks` in pixels of the picture, where the set ships
        them.
      misnamed: What this copy wrongly calls it, if it does.
      extras: Values of the set's own features.
      pixels: For pictures that are no files (rows of a csv, frames of a video): gives
        uint8[H, W, 3] RGB or uint8[H, W] grey. Called once a build, in the order of the
        records, from one thread, and only when there is room for the result: records of a
        video in order of time may share an open decoder. `UnreadableError` and
        `sources.MemberError` drop the record and name it. It should hold on to little.
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
        """What protocols may look at."""
        return protocols.Row(self.id, self.label, self.subject, self.split, self.stratum)
