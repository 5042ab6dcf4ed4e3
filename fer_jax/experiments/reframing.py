"""Frames the stored images of another data set like the faces that a run learned from.

Data sets store faces with different margins, around boxes of different detectors, aligned or not.
Where that is how the run's own images are stored, the images are used as they are. Elsewhere the
face is detected in the stored image and framed as in prediction.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Iterator

import numpy as np

from fer_jax.data.records import Split, decode_image, open_split
from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.detect import MTCNN, Face
from fer_jax.faces.finder import MIN_SHARE, FaceFinder
from fer_jax.faces.framing import Framing
from fer_jax.inference.locate import FER, framing_of, set_name
from fer_jax.run_dir import Run
from tfds_builders.prepared import Prepared

_CROPPED_SHARE = 0.3  # the builders' smallest face; one that was cropped is larger


@dataclasses.dataclass(eq=False)
class Reframed:
    """Images of a split, framed for a run.

    Attributes:
      split: the records; `read` gives the framed images.
      sources: how many images were framed by what, as `Face.source`; "stored" as they are.
      outside: how many crops extend past the stored image, whose edge is repeated there.
    """

    split: Split
    sources: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    outside: int = 0

    @property
    def notes(self) -> Iterator[str]:
        """What a report says about the framing, after all images are read."""
        if self.sources:
            counts = ", ".join(f"{n:,} {source}" for source, n in self.sources.most_common())
            yield (
                f"the images are stored with another framing than the run's and were framed anew "
                f"(faces: {counts}); {self.outside:,} crops extend past the stored image"
            )


def open_framed(run: Run, data: Prepared, split: str, faces: str | None = None) -> Reframed:
    """Opens a split with the images framed for a run.

    Args:
      run: the run.
      data: its data, or other data.
      split: name of the split.
      faces: "whole" to use the images as they are stored, "largest" to detect the face in each;
        None for the latter where they are stored with another framing than the run's.

    Raises:
      UserError: the split is missing or empty.
    """
    framing = framing_of(run)
    if faces is None:
        as_stored = is_own_framing(run, data) or framing.takes_whole
        faces = "whole" if as_stored else "largest"
    if faces == "whole":
        is_whole = data.metadata.get("pictures") == "whole"
        margin = run.preprocessing.face_margin if is_whole else None
        stored = dataclasses.replace(run.preprocessing, face_margin=margin)
        return Reframed(open_split(data, split, stored))
    unframed = dataclasses.replace(run.preprocessing, face_margin=None)
    return _framed_anew(framing, data, split, Reframed(open_split(data, split, unframed)))


def is_own_framing(run: Run, data: Prepared) -> bool:
    """Whether the images of `data` are stored like those that the run was trained on."""
    name, own_name = str(data.builder.name), set_name(run)
    is_same_set = name == own_name or (name in FER and own_name in FER)
    if data.metadata.get("pictures") == "whole" or run.preprocessing.face_margin is not None:
        # Whole images have boxes of their own, which the run's margin applies to.
        return data.metadata.get("pictures") == "whole" and is_same_set
    stored, own_stored = data.metadata.get("crop"), run.data.get("crop")
    if not stored or not own_stored:
        return is_same_set
    crop, own = FaceCrop.from_json(stored), FaceCrop.from_json(own_stored)
    if crop.method != own.method:
        return False
    if crop.method == "align":
        return True
    if crop.method == "keep":
        return is_same_set
    is_same_box = crop.detector == own.detector if crop.method == "detect" else is_same_set
    return is_same_box and crop.margin == own.margin


def _framed_anew(framing: Framing, data: Prepared, split: str, result: Reframed) -> Reframed:
    """Replaces `result.split` by one that detects the face in each stored image.

    With MTCNN, which finds the most faces and knows the boxes of all sets.
    """
    is_whole = data.metadata.get("pictures") == "whole"
    smallest = MIN_SHARE if is_whole else _CROPPED_SHARE
    rows, ids = data.splits[split], result.split.ids
    local, lock = threading.local(), threading.Lock()

    def read(row: int) -> np.ndarray:
        if not hasattr(local, "finder"):  # a detector has internal state: one per thread
            local.finder = FaceFinder(framing, smallest, MTCNN)
        record = data.record(int(rows[row]))
        image = decode_image(record["image"], ids[row])
        found = local.finder.detect(image)
        if not found:
            with lock:
                result.sources["stored"] += 1
            return framing.frame_whole(image, record["landmarks"])
        face: Face = found[0]
        left, top, side = framing.square(face.box)
        height, width = image.shape[:2]
        is_outside = left < 0 or top < 0 or left + side > width or top + side > height
        with lock:
            result.sources[face.source] += 1
            result.outside += is_outside
        return framing.frame(image, face)

    result.split = dataclasses.replace(result.split, read=read)
    return result
