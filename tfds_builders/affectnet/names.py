"""AffectNet's layouts: csv lists with face boxes, or face crops with npy annotations or in folders.

Parses rows, file names and codes, for the builder and the stand-in.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from fer_jax import labels
from tfds_builders import protocols, splits

COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height",
    "facial_landmarks", "expression", "valence", "arousal",
)  # fmt: skip
TABLES: dict[str, str] = {
    protocols.TRAIN: "training.csv",
    protocols.VALIDATION: "validation.csv",
}
FOLDERS: dict[str, str] = {protocols.TRAIN: "train_set", protocols.VALIDATION: "val_set"}
CODES: dict[str, str] = {str(code): label for code, label in enumerate(labels.AFFECTNET)}
UNUSED: dict[str, str] = {"8": "none", "9": "uncertain", "10": "no face"}
"""Expression codes of images that show none of the eight."""

COUNTS: dict[str, tuple[int, ...]] = {
    protocols.TRAIN: (
        74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882, 3_750, 33_088, 11_645, 82_415,
    ),
    protocols.VALIDATION: (500,) * 11,
}  # fmt: skip
"""Images by code, 0 to 10, in a complete copy of the manually annotated part: the counts of
Mollahosseini et al. (2017), minus the validation part's 500 of each code."""

# Indices into the 68 landmarks (iBUG order, from 0): eye outlines, nose tip, mouth corners.
_EYES = (slice(36, 42), slice(42, 48))
_NOSE, _MOUTH = 30, (48, 54)
_IMAGE = re.compile(r".*\.(jpe?g|png|tiff?|bmp)", re.IGNORECASE)


def is_image(file: str) -> bool:
    """Whether a file is an image of the manually annotated part."""
    return bool(_IMAGE.fullmatch(file)) and "automatically" not in file.lower()


def key(file: str) -> str:
    """The path of an image as in the lists: folder and name, in lower case."""
    return "/".join(PurePosixPath(file.replace("\\", "/")).parts[-2:]).lower()


def parse_box(values: Sequence[str]) -> tuple[int, int, int, int] | None:
    """x, y, width, height in pixels; None if the list has no numbers (NULL)."""
    try:
        x, y, width, height = (round(float(value)) for value in values)
    except ValueError:
        return None
    return (x, y, width, height) if width > 0 and height > 0 else None


def parse_landmarks(text: str) -> np.ndarray | None:
    """float32[5, 2] in pixels, from the text "x;y;x;y..." of 68 points; None for other text."""
    try:
        values = np.array([float(value) for value in text.split(";")], np.float32)
    except ValueError:
        return None
    return five_landmarks(values)


def five_landmarks(values: np.ndarray) -> np.ndarray | None:
    """float32[5, 2]: eyes, nose tip and mouth corners of 68 points in any shape.

    None for any other number of points.
    """
    if values.size != 2 * 68:
        return None
    points = values.astype(np.float32).reshape(68, 2)
    eyes = [points[eye].mean(axis=0) for eye in _EYES]
    return np.stack([*eyes, points[_NOSE], *(points[corner] for corner in _MOUTH)])


def is_crop(file: str) -> bool:
    """Whether a file is an image of the npy layout."""
    parts = PurePosixPath(file).parts
    in_images = len(parts) >= 3 and parts[-2] == "images" and parts[-3] in FOLDERS.values()
    return in_images and bool(_IMAGE.fullmatch(file))


def by_class(files: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Split and class folder of the images in <split>/<class>/ of copies without annotations."""
    parts_of = {file: file.split("/")[-3:-1] for file in files if _IMAGE.fullmatch(file)}
    inner = {file: parts for file, parts in parts_of.items() if len(parts) == 2}
    split_of = splits.by_folder({split for split, _ in inner.values()})
    return {
        file: (split_of[split], folder)
        for file, (split, folder) in inner.items()
        if split in split_of and (folder in CODES or folder in UNUSED or labels.named(folder))
    }


def annotation(image: str, kind: str) -> str:
    """The npy file of an image of the npy layout; `kind` is "exp", "val", "aro" or "lnd"."""
    path = PurePosixPath(image)
    return str(path.parent.parent / "annotations" / f"{path.stem}_{kind}.npy")


def parse_npy(data: bytes) -> np.ndarray:
    """The float64 array in an npy file of numbers or numeric text.

    Raises:
      ValueError: The data is not such a file.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
        return np.asarray(array.astype(np.float64))
    except (OSError, EOFError) as error:
        raise ValueError(str(error)) from error


def tables_among(files: Iterable[str]) -> dict[str, str]:
    """Split to csv list, for the lists that are among `files`."""
    by_name = {PurePosixPath(file).name.lower(): file for file in sorted(files, reverse=True)}
    return {split: by_name[name] for split, name in TABLES.items() if name in by_name}
