"""How prediction frames the faces of a run: like its training data.

Translates a run directory to `faces.framing.Framing`. What the boxes of the data sets are, seen
from those of the detectors, was measured and is here.
"""

from __future__ import annotations

from collections.abc import Mapping

from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.detect import HAAR, MTCNN
from fer_jax.faces.framing import BoxChange, Framing
from fer_jax.run_dir import Run

# Medians over the validation split of synthetic_faces/demo, the only set of uncropped images; those
# of MTCNN at 200 pixels, where it finds all 420 faces and the cascades 231. The set's boxes fit
# tightly around the rendered head; without the correction, accuracy drops by 30 points.
_TO_STORED_BOX: Mapping[str, BoxChange] = {
    MTCNN: (0.0, 0.091, 0.855), "haar": (0.0, 0.105, 0.9), "profile": (0.0, 0.094, 0.73),
}  # fmt: skip

# On the same images, the frontal cascade's box seen from MTCNN's (224 faces; interquartile range of
# the side 0.90 to 0.98), and the reverse.
_TO_HAAR: Mapping[str, BoxChange] = {MTCNN: (0.0, -0.008, 0.937)}
_TO_MTCNN: Mapping[str, BoxChange] = {"haar": (0.0, 0.009, 1.067)}

# 1,314 faces that MTCNN found in 1,490 training images of FER2013, whose images FER+ has too. The
# frontal cascade's boxes are these crops up to 3 percent.
_TO_FER: Mapping[str, BoxChange] = {MTCNN: (0.0, -0.011, 0.946)}
FER = ("fer2013", "ferplus")
"""Sets of the same images."""

_DEFAULT_CROP = FaceCrop()
"""For runs that store no crop settings: data sets of uncropped images, and runs of format 2."""


def framing_of(run: Run) -> Framing:
    """Returns how prediction frames faces for a run.

    For a data set of ready-made crops or boxes, photos still go through a detector, and its boxes
    get the margin of the set's settings.
    """
    stored = run.data.get("crop")
    crop = FaceCrop.from_json(stored) if stored else _DEFAULT_CROP
    preprocessing, name = run.preprocessing, set_name(run)
    # A published set that ships face crops is different: users of such a run predict photos.
    is_own_folder = name == "image_folder" and preprocessing.face_margin is None
    return Framing(
        size=preprocessing.size,
        mask=preprocessing.mask,
        margin=preprocessing.face_margin,
        crop=crop,
        detector=_detector(crop, stored is not None),
        box_changes=_box_changes(crop, name, preprocessing.face_margin),
        takes_whole=is_own_folder and crop.method in ("keep", "pad"),
    )


def set_name(run: Run) -> str:
    """Returns the name of the run's data set, without variant and version."""
    return str(run.data.get("name", "")).split("/")[0]


def _detector(crop: FaceCrop, is_stored: bool) -> str:
    """Returns the detector that prediction uses, a `FaceCrop.detector`.

    MTCNN finds twice as many faces of ordinary photos as the Haar cascades. The cascades remain for
    runs whose training data they cropped, as the paper's protocols do; another detector remains if
    the data set was prepared with it.
    """
    is_set = is_stored and crop.method == "detect"
    return crop.detector if is_set or crop.detector != HAAR else MTCNN


def _box_changes(crop: FaceCrop, name: str, margin: float | None) -> Mapping[str, BoxChange]:
    """Returns how detected boxes become those of the run's data, by `Face.source`."""
    if margin is not None:
        return _TO_STORED_BOX
    if crop.method == "keep" and name in FER:
        return _TO_FER
    return _TO_MTCNN if crop.detector == MTCNN else _TO_HAAR
